# In front of virtio disks on the PCI bus, with split and with packed rings: all that clients do, ends of all kinds.
#
# devices: virtio-split virtio-packed nbd
# limit: 180
# beside: no
# emulator: one-thread
. /guest/lib.sh
. /guest/serving.sh

for disk in virtio-split virtio-packed; do
    vfio_bind $disk
    path=/sys/bus/pci/devices/$(pci_address $disk)
    gateway info virtio-blk-vfio-pci path="$path" >facts
    expect "the serial number is known" grep -qx serial=$disk facts
    expect "the size is known" grep -qx capacity=67108864 facts

    serve_and_check $disk 67108864 virtio-blk-vfio-pci path="$path"
    gateway_start polled virtio-blk-vfio-pci path="$path" num-poll-queues=2
    check_contents polled $disk.data
    gateway_stop polled

    rebind $disk ""
    node=$(virtio_disk $disk)
    expect "the kernel reads the same from $disk" cmp "$node" $disk.data
    vfio_bind $disk
    gateway_start $disk virtio-blk-vfio-pci path="$path"
    expect "zeroes and discard" qemu-io -f raw -c "discard 4M 4M" -c "write -z -u 16M 8M" -c "write -z 30M 1M" \
        "$(uri $disk)"
    gateway_stop $disk
    rebind $disk ""
    node=$(virtio_disk $disk)
    for range in "4 4" "16 8" "30 1"; do
        # shellcheck disable=SC2086 # A range is two words.
        expect "the kernel reads zeroes there: $range" is_zero "$node" $range
    done
    rm $disk.data
done
