# What is discarded on an NVMe disk, or zeroed and may be a hole, is a hole of the image behind it, and nothing else is.
#
# devices: nvme-holes
# limit: 60
# beside: no
# emulator: one-thread
# holes: nvme-holes 4+4 12+4 36+4 44+4
. /guest/lib.sh

# make_holes NAME FIRST DRIVER WORD: two holes, 8 MiB apart. QEMU's controller makes some of all zeroes, so none are
# written that must keep their room.
make_holes() {
    gateway_start "$1" "$3" "$4"
    expect "$1 makes holes" qemu-io -f raw -c "discard $2M 4M" -c "write -z -u $(($2 + 8))M 4M" \
        -c "flush" "$(uri "$1")"
    gateway_stop "$1"
}

random_file data 64
gateway_start uring nvme-io_uring path="$(nvme_generic nvme-holes)"
expect "the disk is full" nbdcopy --flush data "$(uri uring)"
gateway_stop uring
make_holes uring 4 nvme-io_uring path="$(nvme_generic nvme-holes)"
vfio_bind nvme-holes
make_holes pci 36 nvme-vfio-pci path="/sys/bus/pci/devices/$(pci_address nvme-holes)"
rebind nvme-holes ""
