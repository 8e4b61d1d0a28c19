# A block of an NVMe disk that cannot be read: an error for requests that need it, and for no others.
#
# devices: nvme-damaged
# limit: 100
# beside: no
# emulator: one-thread
. /guest/lib.sh

# check_damage NAME DRIVER WORD…: the block is at 20 MiB.
check_damage() {
    gateway_start "$@"
    expect "what lies before is read by $1" qemu-io -f raw -c "read 16M 4M" "$(uri "$1")"
    expect "and what lies behind" qemu-io -f raw -c "read 20972032 4M" "$(uri "$1")"
    for range in "20M 512" "20M 64k" "20480k 512k" "19M 2M"; do
        # qemu-io ends well in either case.
        qemu-io -f raw -c "read $range" "$(uri "$1")" >read.out 2>&1 || true
        expect "$range cannot be read by $1" grep -q "read failed: Input/output error" read.out
    done
    expect "what lies around is still read by $1" qemu-io -f raw -c "read 19M 1M" -c "read 21M 1M" "$(uri "$1")"
    expect "the block can be written by $1" qemu-io -f raw -c "write -P 3 20M 64k" "$(uri "$1")"
    ! nbdcopy "$(uri "$1")" null: || fail "a copy of a damaged disk ended well"
    gateway_stop "$1"
}

check_damage uring nvme-io_uring path="$(nvme_generic nvme-damaged)"
vfio_bind nvme-damaged
check_damage pci nvme-vfio-pci path="/sys/bus/pci/devices/$(pci_address nvme-damaged)"
rebind nvme-damaged ""
