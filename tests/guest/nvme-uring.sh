# In front of NVMe namespaces past the block layer, with short and with long blocks: all that clients do, ends of all
# kinds, and a controller that is reset meanwhile.
#
# devices: nvme-512 nvme-4096 nbd
# limit: 240
# beside: no
# emulator: one-thread
. /guest/lib.sh
. /guest/serving.sh

# libblkio asks for more at once than controllers take.
BLKIO_REQUEST=65536

# reset_controller SYSFS: resets it, and waits until it runs again.
reset_controller() {
    echo 1 >"$1/reset_controller"
    wait_for 20 grep -qx live "$1/state"
}

# disk DEVICE NAMESPACE
disk() {
    local name=$1-$2 node generic
    node=$(nvme_disk "$1" "$2")
    generic=$(nvme_generic "$1" "$2")
    gateway info nvme-io_uring path="$generic" >"facts-$name"
    expect "the serial number is known" grep -qx "serial=$1" "facts-$name"
    expect "the health is known" grep -q "^health=ok" "facts-$name"
    expect "the limit of the kernel holds" [ "$(sed -n 's/^max-transfer=//p' "facts-$name")" -le $((508 << 10)) ]
    serve_and_check "$name" 67108864 nvme-io_uring path="$generic"
    expect "the kernel reads the same from $name" cmp "$node" "$name.data"
    gateway_start "$name" nvme-io_uring path="$generic"
    expect "zeroes and discard" qemu-io -f raw -c "discard 4M 4M" -c "write -z -u 16M 8M" -c "write -z 30M 1M" \
        "$(uri "$name")"
    check_resets "$name" reset_controller "/sys/block/${node#/dev/}/device"
    gateway_stop "$name"
    echo 1 >/proc/sys/vm/drop_caches
    blockdev --flushbufs "$node"
    expect "the kernel reads zeroes that may be holes" is_zero "$node" 16 8
    expect "and others" is_zero "$node" 30 1
    # A descriptor that somebody else opened.
    gateway_start fd nvme-io_uring fd=9 9<>"$generic"
    expect "a descriptor is served" qemu-io -f raw -c "write -P 5 1M 1M" -c "read -P 5 1M 1M" "$(uri fd)"
    gateway_stop fd
    rm "$name.data"
}

disk nvme-512 1
disk nvme-4096 1
disk nvme-4096 2
