# The driver for NVMe disks over VFIO passes every check that drivers must pass, with short and with long blocks, with
# interrupts and with polling, the second namespace like the first.
#
# devices: nvme-512 nvme-4096
# limit: 300
# beside: no
# emulator: one-thread
# programs: device-conformance
. /guest/lib.sh

for disk in nvme-512 nvme-4096; do
    vfio_bind $disk
    path=/sys/bus/pci/devices/$(pci_address $disk)
    expect "$disk conforms" device-conformance device nvme-vfio-pci path="$path"
done
expect "the second namespace conforms with a polled queue" device-conformance device nvme-vfio-pci path="$path" \
    namespace=2 num-poll-queues=1
