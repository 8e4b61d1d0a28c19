# The driver for virtio disks on the PCI bus passes every check that drivers must pass, with split and packed rings,
# with interrupts and with polling.
#
# devices: virtio-split virtio-packed
# limit: 200
# beside: no
# emulator: one-thread
# programs: device-conformance
. /guest/lib.sh

for disk in virtio-split virtio-packed; do
    vfio_bind $disk
    path=/sys/bus/pci/devices/$(pci_address $disk)
    expect "$disk conforms" device-conformance device virtio-blk-vfio-pci path="$path"
done
expect "with a polled queue" device-conformance device virtio-blk-vfio-pci path="$path" num-poll-queues=1
