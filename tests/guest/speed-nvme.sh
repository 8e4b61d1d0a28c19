# In front of one NVMe disk, at depth 32: past the block layer twice what nbdkit's blkio plugin has, over VFIO more
# still, and more than qemu-nbd's own driver, at less processor time; 4 requests for each notification.
#
# devices: nvme-512
# limit: 500
# beside: no
# measures: yes
. /guest/lib.sh
. /guest/measuring.sh

# one NAME PIDFILE: measures the server on NAME.sock; adds to $NAME_requests (in a second) and $NAME_time (ticks).
one() {
    local name=$1 pid before requests time
    read -r pid <"$2"
    before=$(processor_time "$pid")
    requests=$(measure "$(uri "$name")")
    time=$(($(processor_time "$pid") - before))
    echo "$name, round $round: $requests requests in a second, $((time * 1000 / requests)) ticks for 1000 of them"
    eval "${name}_requests=\$((${name}_requests + requests)) ${name}_time=\$((${name}_time + time))"
}

# gateway_one NAME DRIVER WORD…: also adds to the queue's counts.
gateway_one() {
    local name=$1
    gateway_start "$1" -v "$2" "$3" 2>log
    one "$1" "$1.pid"
    gateway_stop "$1" >/dev/null
    eval "${name}_ended=\$((${name}_ended + $(counted ended)))"
    eval "${name}_kicks=\$((${name}_kicks + $(counted kicks))) ${name}_calls=\$((${name}_calls + $(counted calls)))"
}

# lean NAME: how much more time it takes for a request than the driver over VFIO, in hundredths.
lean() {
    eval "ratio \$((${1}_time * vfio_requests)) \$((vfio_time * ${1}_requests))"
}

uring_ended=0 uring_kicks=0 uring_calls=0 vfio_ended=0 vfio_kicks=0 vfio_calls=0
for name in uring nbdkit vfio qemu; do
    eval "${name}_requests=0 ${name}_time=0"
done
sysfs=/sys/bus/pci/devices/$(pci_address nvme-512)
for round in $(seq $ROUNDS); do
    generic=$(nvme_generic nvme-512)
    gateway_one uring nvme-io_uring path="$generic"
    blkio_start nvme-io_uring path="$generic"
    one nbdkit nbdkit.pid
    end_of nbdkit.pid
    vfio_bind nvme-512 >/dev/null
    gateway_one vfio nvme-vfio-pci path="$sysfs"
    qemu-nbd -k "$PWD/qemu.sock" --pid-file="$PWD/qemu.pid" -f raw --fork -t -e 4 "nvme://$(pci_address nvme-512)/1"
    one qemu qemu.pid
    end_of qemu.pid
    rebind nvme-512 ""
done
# Of all rounds together. The variables are set by `one`.
# shellcheck disable=SC2154
{
    goal "nvme-io_uring: requests beside nbdkit" "$(ratio "$uring_requests" "$nbdkit_requests")" 200
    goal "nvme-vfio-pci: requests beside nvme-io_uring" "$(ratio "$vfio_requests" "$uring_requests")" 100
    goal "nvme-vfio-pci: requests beside qemu-nbd" "$(ratio "$vfio_requests" "$qemu_requests")" 100
}
goal "nvme-vfio-pci: less time than nvme-io_uring" "$(lean uring)" 100
goal "nvme-vfio-pci: less time than qemu-nbd" "$(lean qemu)" 100
goal "nvme-vfio-pci: requests for each doorbell" "$(ratio $vfio_ended $vfio_kicks)" 400
goal "nvme-vfio-pci: requests for each interrupt" "$(ratio $vfio_ended $vfio_calls)" 400
goal "nvme-io_uring: requests for each wake-up" "$(ratio $uring_ended $uring_calls)" 400
# The doorbells behind it are the kernel's.
echo "nvme-io_uring: $(ratio $uring_ended $uring_kicks) hundredths of a request for each io_uring_enter"
all_met
