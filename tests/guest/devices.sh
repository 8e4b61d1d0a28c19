# The guest has what drivers need: disks that vfio-pci takes and gives back, vDPA devices, NVMe character devices.
#
# devices: nvme-4096 virtio-split virtio-packed vdpa
# limit: 60
# beside: yes
. /guest/lib.sh

first=$(nvme_disk nvme-4096) second=$(nvme_disk nvme-4096 2)
block_size() {
    [ "$(blockdev --getss "$1")" = "$2" ]
}
expect "a namespace with long blocks" block_size "$first" 4096
expect "a namespace with short blocks" block_size "$second" 512
# /dev/nvme0n1 and /dev/ng0n1.
expect "a node for passthrough" [ -c "/dev/ng${first#/dev/nvme}" ]

for device in virtio-split virtio-packed nvme-4096; do
    node=$(vfio_bind $device)
    expect "$device has a group" [ -c "$node" ]
    rebind $device ""
done
random_file data 1
for disk in "$(virtio_disk virtio-split)" "$(virtio_disk virtio-packed)" "$(nvme_disk nvme-4096)"; do
    dd if=data of="$disk" bs=1M 2>/dev/null
    expect "$disk works again" same_head "$disk" data $((1 << 20))
done

truncate -s 8M image
node=$(vdpa_create vduse0 "$PWD/image" num-queues=2)
expect "a node for vhost-vdpa" [ -c "$node" ]
vdpa_remove vduse0
expect "a node for ublk" [ -c /dev/ublk-control ]
