# The driver for NVMe namespaces past the block layer passes every check that drivers must pass, with short and with
# long blocks, with interrupts and with polling, the second namespace like the first.
#
# devices: nvme-512 nvme-4096
# limit: 200
# beside: no
# emulator: one-thread
# programs: device-conformance
. /guest/lib.sh

for disk in nvme-512 nvme-4096; do
    expect "$disk conforms" device-conformance device nvme-io_uring path="$(nvme_generic $disk)"
done
# The driver makes polled queues of disks that it takes from now on.
echo 1 >/sys/module/nvme/parameters/poll_queues
rebind nvme-4096 ""
node=$(nvme_generic nvme-4096 2)
expect "the second namespace conforms with a polled queue" device-conformance device nvme-io_uring path="$node" \
    num-poll-queues=1
echo 0 >/sys/module/nvme/parameters/poll_queues
rebind nvme-4096 ""
