# What scenarios share; each begins with `. /guest/lib.sh`.
#
# A scenario is run by busybox as root, in an empty folder of its own. It has failed when a command in it fails that is
# not part of a condition. It need not clean up: its processes are killed at its end. What it puts into the folder
# $ARTEFACTS comes back to the host. Functions below take the names of devices in xtask/src/guest/machine.rs.
set -eu

# fail TEXT: ends the scenario.
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# expect TEXT COMMAND…: the command must go well.
expect() {
    expectation=$1
    shift
    "$@" || fail "$expectation, but \`$*\` ended with $?"
    echo "ok: $expectation"
}

# wait_for SECONDS COMMAND…: until the command goes well.
wait_for() {
    tries=$(($1 * 20))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "waited in vain for \`$*\`"
        sleep 0.05
    done
}

# alive PID: whether the process is there and has not ended.
alive() {
    [ -e "/proc/$1/exe" ]
}

# random_file FILE MEBIBYTES: contents that nothing else has.
random_file() {
    dd if=/dev/urandom of="$1" bs=1M count="$2" 2>/dev/null
}

# cmp FILE FILE…: not the one inside busybox, which comes first and takes 70 times as long.
cmp() {
    /usr/bin/cmp "$@"
}

# same_head FILE FILE BYTES: whether both begin with the same bytes.
same_head() {
    cmp -n "$3" "$1" "$2"
}

# is_zero FILE FIRST COUNT: whether it has zeroes there, in MiB.
is_zero() {
    dd if="$1" bs=1M skip="$2" count="$3" 2>/dev/null | cmp -n $(($3 << 20)) - /dev/zero
}

# gateway_start NAME ARGUMENT…: serves on the socket NAME.sock; clients can connect when this returns.
gateway_start() {
    server=$1
    shift
    # One that was killed left its file.
    rm -f "$server.pid"
    gateway -U "$server.sock" --pidfile "$server.pid" "$@" &
    server_pid=$!
    while [ ! -s "$server.pid" ]; do
        alive $server_pid || fail "the gateway ended at its start: $*"
        sleep 0.05
    done
}

# gateway_stop NAME: it must end well.
gateway_stop() {
    read -r server_pid <"$1.pid"
    kill "$server_pid"
    expect "the gateway ends well" wait "$server_pid"
}

# refused STATUS TEXT COMMAND…: the command, which is the gateway in one way or another, ends with this status, and with
# one message that has the text in it.
refused() {
    refusal_status=$1 refusal=$2
    shift 2
    refused_status=0
    "$@" >refused.out 2>refused.err || refused_status=$?
    cat refused.err
    [ $refused_status = "$refusal_status" ] || fail "\`$*\` ended with $refused_status, not $refusal_status"
    [ "$(grep -v '^[0-9T:.-]*Z  INFO ' refused.err | wc -l)" = 1 ] || fail "\`$*\` has not one line to say"
    grep -q '^gateway: ' refused.err || fail "\`$*\` does not say who speaks"
    grep -q -F -e "$refusal" refused.err || fail "\`$*\` does not say: $refusal"
}

# uri NAME: how clients call the server on NAME.sock.
uri() {
    echo "nbd+unix:///?socket=$PWD/$1.sock"
}

# nbd_attach NAME DEVICE [OPTION]…: gives the server on NAME.sock to the kernel. busybox has another nbd-client inside.
nbd_attach() {
    socket=$PWD/$1.sock
    shift
    /usr/sbin/nbd-client -unix "$socket" "$@"
}

# nbd_detach DEVICE: returns when the kernel has let go.
nbd_detach() {
    /usr/sbin/nbd-client -d "$1"
    wait_for 10 nbd_detached "$1"
}

nbd_detached() {
    [ ! -e "/sys/block/${1#/dev/}/pid" ]
}

# storage_daemon_start NAME ARGUMENT…: runs qemu-storage-daemon; its exports are there when this returns.
storage_daemon_start() {
    daemon=$1
    shift
    qemu-storage-daemon --daemonize --pidfile "$daemon.pid" "$@"
}

# storage_daemon_stop NAME
storage_daemon_stop() {
    read -r daemon_pid <"$1.pid"
    kill "$daemon_pid"
    wait_for 10 ended "$daemon_pid"
}

ended() {
    ! alive "$1"
}

# nvme_disk DEVICE [NAMESPACE]: the block device of a namespace, the first by default.
nvme_disk() {
    give_back "$1" >&2
    wait_for 10 find_nvme "$1" "${2:-1}" >&2
    find_nvme "$1" "${2:-1}"
}

find_nvme() {
    for namespace in /sys/class/nvme/nvme*/nvme*n*; do
        [ "$(cat "$namespace/nsid" 2>/dev/null)" = "$2" ] || continue
        # The serial number is padded with blanks.
        read -r serial <"${namespace%/*}/serial"
        if [ "$serial" = "$1" ]; then
            echo "/dev/${namespace##*/}"
            return
        fi
    done
    return 1
}

# nvme_generic DEVICE [NAMESPACE]: the generic device of a namespace, the first by default.
nvme_generic() {
    local node
    node=$(nvme_disk "$@")
    echo "/dev/ng${node#/dev/nvme}"
}

# virtio_disk DEVICE: its block device.
virtio_disk() {
    give_back "$1" >&2
    wait_for 10 find_virtio "$1" >&2
    find_virtio "$1"
}

find_virtio() {
    for disk in /sys/block/vd*; do
        if [ "$(cat "$disk/serial" 2>/dev/null)" = "$1" ]; then
            echo "/dev/${disk##*/}"
            return
        fi
    done
    return 1
}

# pci_address DEVICE
pci_address() {
    case $1 in
    nvme-512) echo 0000:00:10.0 ;;
    nvme-4096) echo 0000:00:11.0 ;;
    virtio-split) echo 0000:00:12.0 ;;
    virtio-packed) echo 0000:00:13.0 ;;
    virtio-legacy) echo 0000:00:14.0 ;;
    virtio-rng) echo 0000:00:14.1 ;;
    virtio-bypass) echo 0000:00:15.0 ;;
    nvme-damaged) echo 0000:00:16.0 ;;
    nvme-holes) echo 0000:00:17.0 ;;
    debian) echo 0000:00:18.0 ;;
    *) fail "no device $1" ;;
    esac
}

# rebind DEVICE DRIVER: gives the device to a driver, or to the one that wants it when DRIVER is empty.
rebind() {
    address=$(pci_address "$1")
    device=/sys/bus/pci/devices/$address
    [ ! -e "$device/driver" ] || echo "$address" >"$device/driver/unbind"
    echo "$2" >"$device/driver_override"
    echo "$address" >/sys/bus/pci/drivers_probe
    [ -e "$device/driver" ] || fail "no driver took $1"
}

# give_back DEVICE: to the kernel's own driver, if a scenario before has left it to vfio-pci.
give_back() {
    case $(readlink "/sys/bus/pci/devices/$(pci_address "$1")/driver") in
    '' | */vfio-pci) rebind "$1" "" ;;
    esac
}

# vfio_bind DEVICE: gives the device to vfio-pci; prints its group's node.
vfio_bind() {
    rebind "$1" vfio-pci
    group=$(readlink "/sys/bus/pci/devices/$(pci_address "$1")/iommu_group")
    echo "/dev/vfio/${group##*/}"
}

# vdpa_create NAME FILE [OPTIONS]: a vDPA disk in user space, served from the file; prints its node. OPTIONS are further
# properties of the export, such as num-queues=2.
vdpa_create() {
    storage_daemon_start "$1" --blockdev "driver=file,node-name=$1,filename=$2,discard=unmap" \
        --export "type=vduse-blk,id=$1,node-name=$1,name=$1,writable=on${3:+,$3}" >&2
    vdpa dev add name "$1" mgmtdev vduse >&2
    wait_for 5 find_vdpa "$1" >&2
    find_vdpa "$1"
}

find_vdpa() {
    # Scenarios call theirs the same.
    local node
    for node in "/sys/bus/vdpa/devices/$1"/vhost-vdpa-* "/sys/bus/vdpa/devices/$1"/vhost-vdpa/vhost-vdpa-*; do
        if [ -d "$node" ] && [ -c "/dev/${node##*/}" ]; then
            echo "/dev/${node##*/}"
            return
        fi
    done
    return 1
}

# vdpa_remove NAME: in this order, or the device stays without anybody behind it.
vdpa_remove() {
    vdpa dev del "$1"
    storage_daemon_stop "$1"
}
