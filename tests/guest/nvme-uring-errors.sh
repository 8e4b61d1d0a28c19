# Everything that is wrong with an NVMe namespace past the block layer or the way it is given: one clear message each. A
# disk that is removed fails, and the server says so.
#
# devices: nvme-512 nvme-4096
# limit: 120
# beside: no
# emulator: one-thread
. /guest/lib.sh

# served WORD…: the driver with these properties. RUN goes before the command.
RUN=
served() {
    # shellcheck disable=SC2086 # RUN is a list of words.
    $RUN gateway info nvme-io_uring "$@"
}

node=$(nvme_disk nvme-512)
generic=$(nvme_generic nvme-512)
controller=${node%n*}
# Words.
refused 2 "needs the property 'path' or 'fd'" served
refused 2 "got both 'path' and 'fd'" served path="$generic" fd=3
refused 2 "cannot be set: it is a fact" served path="$generic" namespace=2
# Places.
refused 1 "open '/dev/ng99n1' for reading and writing: No such file" served path=/dev/ng99n1
refused 1 "'$node' is a block device" served path="$node"
refused 1 "'/guest/lib.sh' is a regular file" served path=/guest/lib.sh
refused 1 "'/dev/null' is no NVMe namespace" served path=/dev/null
refused 1 "'$controller' is no NVMe namespace" served path="$controller"
# What the kernel does not have.
refused 1 "does not support polling" gateway -U x.sock nvme-io_uring path="$generic" num-poll-queues=1
expect "with the remedy" grep -q "nvme.poll_queues=N" refused.err
# Permissions.
RUN="/usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups"
refused 1 "open '$generic' for reading and writing: Permission denied" served path="$generic" read-only=false
RUN=
# Memory that may be locked.
(
    ulimit -l 64
    # Root would keep the capability to lock more.
    expect "little memory is enough" /usr/bin/setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock \
        gateway -U little.sock --run 'qemu-io -f raw -c "write -P 6 1M 1M" -c "read -P 6 1M 1M" "$uri"' \
        nvme-io_uring path="$generic" 2>little.err
)
expect "and told" grep -q "payload memory is not registered" little.err
# Somebody who may only read.
gateway_start reader nvme-io_uring path="$generic" read-only=true
expect "reads" qemu-io -r -f raw -c "read 0 1M" "$(uri reader)"
! qemu-io -f raw -c "write 0 4k" "$(uri reader)" || fail "a disk that is read-only was written to"
gateway_stop reader
# A disk that goes.
gateway_start front nvme-io_uring path="$generic" 2>front.err
fio --name=load --ioengine=nbd --uri="$(uri front)" --rw=randread --bs=4k --size=8M --iodepth=32 --time_based \
    --runtime=60 --output=load.fio 2>&1 &
load=$!
sleep 1
address=$(pci_address nvme-512)
echo 1 >"/sys/bus/pci/devices/$address/remove"
! wait $load || fail "the client of a disk that was removed ended well"
wait_for 10 grep -q "has been removed" front.err
kill "$(cat front.pid)"
wait_for 20 ended "$(cat front.pid)"
echo 1 >/sys/bus/pci/rescan
expect "it is back" [ -c "$(nvme_generic nvme-512)" ]
