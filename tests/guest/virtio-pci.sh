# In front of virtio disks on the PCI bus, with a split and with a packed ring.
#
# devices: virtio-split virtio-packed
# limit: 120
# beside: no
. /guest/lib.sh

random_file data 8
for disk in virtio-split virtio-packed; do
    vfio_bind $disk
    path=/sys/bus/pci/devices/$(pci_address $disk)
    gateway info virtio-blk-vfio-pci path="$path" >facts
    cat facts
    expect "the serial number is known" grep -qx serial=$disk facts
    gateway_start front virtio-blk-vfio-pci path="$path"
    expect "nbdinfo knows the size" nbdinfo --size "$(uri front)"
    expect "a copy to the disk" nbdcopy --flush data "$(uri front)"
    expect "a copy from the disk" nbdcopy "$(uri front)" back
    expect "it gives back what it took" same_head back data $((8 << 20))
    gateway_stop front
    rebind $disk ""
    expect "the kernel reads the same" same_head "$(virtio_disk $disk)" data $((8 << 20))
done
