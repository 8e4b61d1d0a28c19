# In front of NVMe disks over VFIO, with short and with long blocks: all that clients do, ends of all kinds.
#
# devices: nvme-512 nvme-4096 nbd
# limit: 240
# beside: no
# emulator: one-thread
. /guest/lib.sh
. /guest/serving.sh

# nbdkit has no such driver: the kernel's own looks afterwards.
check_blkio() {
    :
}

# reset_function SYSFS
reset_function() {
    echo flr >"$1/reset_method"
    echo 1 >"$1/reset"
}

# disk DEVICE NAMESPACE
disk() {
    name=$1-$2
    vfio_bind "$1"
    path=/sys/bus/pci/devices/$(pci_address "$1")
    set -- "$1" "$2" nvme-vfio-pci path="$path" namespace="$2"
    gateway info "$3" "$4" "$5" >"facts-$name"
    expect "the serial number is known" grep -qx "serial=$1" "facts-$name"
    expect "the health is known" grep -q "^health=ok" "facts-$name"
    serve_and_check "$name" 67108864 "$3" "$4" "$5"
    gateway_start polled "$3" "$4" "$5" num-poll-queues=2
    check_contents polled "$name.data"
    gateway_stop polled

    rebind "$1" ""
    node=$(nvme_disk "$1" "$2")
    expect "the kernel reads the same from $name" cmp "$node" "$name.data"
    vfio_bind "$1"
    gateway_start "$name" "$3" "$4" "$5"
    kill_under_load "$name"
    rebind "$1" ""
    node=$(nvme_disk "$1" "$2")
    expect "and after a server that was killed" cmp "$node" "$name.data"
    vfio_bind "$1"
    gateway_start "$name" "$3" "$4" "$5"
    expect "zeroes and discard" qemu-io -f raw -c "discard 4M 4M" -c "write -z -u 16M 8M" -c "write -z 30M 1M" \
        "$(uri "$name")"
    check_resets "$name" reset_function "$path"
    gateway_stop "$name"
    rebind "$1" ""
    node=$(nvme_disk "$1" "$2")
    expect "the kernel reads zeroes that may be holes" is_zero "$node" 16 8
    expect "and others" is_zero "$node" 30 1
    rm "$name.data"
}

disk nvme-512 1
disk nvme-4096 1
disk nvme-4096 2
