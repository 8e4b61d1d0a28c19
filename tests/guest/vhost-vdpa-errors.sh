# Everything that can be wrong with a vDPA disk has one clear message: paths, permissions, bindings, features.
#
# devices: vdpa nvme-512
# limit: 60
# beside: no
. /guest/lib.sh

truncate -s 16M image
node=$(vdpa_create vduse2 "$PWD/image" num-queues=2)
disk=$(nvme_disk nvme-512)
nbdkit -U other.sock -P other.pid memory 1M
# serves WORD…: the driver with these properties, for a moment.
serves() {
    gateway -U front.sock --run true virtio-blk-vhost-vdpa "$@"
}
NAMES="vhost-vdpa devices are called /dev/vhost-vdpa-N"

# Other paths than that of a device.
refused 2 "needs the property 'path' or 'fd'" serves
refused 2 "cannot be '': a path is not empty" serves path=
refused 2 "got both 'path' and 'fd' (give one of them)" serves path="$node" fd=0
refused 1 "No such file or directory (os error 2) (load the kernel module vhost_vdpa" serves path=/dev/vhost-vdpa-77
refused 1 "No such file or directory" serves path=/nowhere/vhost-vdpa-0
refused 1 "work/image/vhost-vdpa-0': Not a directory" serves path=image/vhost-vdpa-0
refused 1 "cannot open '/dev': Is a directory (os error 21) ($NAMES)" serves path=/dev
refused 1 "work/image' is no character device ($NAMES)" serves path=image
refused 1 "'$disk' is no character device ($NAMES)" serves path="$disk"
refused 1 "it is no device, or the device behind it is gone" serves path=other.sock
refused 1 "VHOST_VDPA_GET_DEVICE_ID: Inappropriate ioctl for device (os error 25) ($NAMES)" serves path=/dev/null
refused 1 "VHOST_VDPA_GET_DEVICE_ID: Invalid argument (os error 22) ($NAMES)" serves path=/dev/vfio/vfio

# Descriptors.
refused 2 "'fd' of driver 'virtio-blk-vhost-vdpa' cannot be '-1'" serves fd=-1
refused 1 "cannot use descriptor 77: Bad file descriptor (os error 9) (the program that starts" serves fd=77
refused 1 "descriptor 5 is no character device ($NAMES)" serves fd=5 5<>image
refused 1 "descriptor 5 is not open for reading and writing (in a shell: 5<>/dev" serves fd=5 5<"$node"
refused 1 "descriptor 5 is not open for reading and writing (in a shell: 5<>/dev" serves fd=5 5>"$node"
expect "a descriptor works that was opened so" serves fd=5 5<>"$node"

# What the device does not have.
refused 1 "'$node' has 2 queues, not 3 (num-queues=2 or less)" serves path="$node" num-queues=3
refused 1 "has queues of at most 256 entries, not 1024 (queue-size=256" serves path="$node" queue-size=1024
refused 2 "'queue-size' cannot be 100: it is no power of two" serves path="$node" queue-size=100
refused 2 "'queue-size' of driver 'virtio-blk-vhost-vdpa' cannot be '2'" serves path="$node" queue-size=2
refused 2 "'num-queues' of driver 'virtio-blk-vhost-vdpa' cannot be '0'" serves path="$node" num-queues=0
refused 2 "cannot be 'soon': it is not a whole number, nor" serves path="$node" request-timeout=soon
refused 2 "'max-queues' of driver 'virtio-blk-vhost-vdpa' cannot be set" serves path="$node" max-queues=3
refused 2 "driver 'virtio-blk-vhost-vdpa' has no property 'colour'" serves path="$node" colour=red

# Who may not have it, and who has it.
refused 1 "Permission denied (os error 13) (the device node's permissions do not allow it" \
    /usr/bin/setpriv --reuid 1000 --clear-groups gateway info virtio-blk-vhost-vdpa path="$node"
chmod 444 "$node"
refused 1 "it must be readable and writable" \
    /usr/bin/setpriv --reuid 1000 --clear-groups gateway info virtio-blk-vhost-vdpa path="$node"
chmod 600 "$node"
gateway_start busy virtio-blk-vhost-vdpa path="$node"
refused 1 "Device or resource busy (os error 16) (another program has it open" serves path="$node"
gateway_stop busy

# The kernel's own driver has it.
insmod /modules/virtio_vdpa.ko
echo vduse2 >/sys/bus/vdpa/drivers/vhost_vdpa/unbind
echo vduse2 >/sys/bus/vdpa/drivers/virtio_vdpa/bind
refused 1 "bind the vDPA device to it: vdpa dev show" serves path="$node"
echo vduse2 >/sys/bus/vdpa/drivers/virtio_vdpa/unbind
echo vduse2 >/sys/bus/vdpa/drivers/vhost_vdpa/bind
wait_for 5 find_vdpa vduse2
rmmod virtio_vdpa
expect "it works again" serves path="$node"

# Read-only.
sealed=$(vdpa_create vduse3 "$PWD/image" writable=off)
refused 1 "'$sealed' is read-only (leave out read-only=false)" serves path="$sealed" read-only=false
gateway_start sealed virtio-blk-vhost-vdpa path="$sealed"
expect "clients know that it is read-only" nbdinfo --is read-only "$(uri sealed)"
gateway_stop sealed
vdpa_remove vduse3

# The program behind it is gone, and the kernel waits a second for its answers.
echo 1 >/sys/class/vduse/vduse2/msg_timeout
read -r pid <vduse2.pid
kill -9 "$pid"
wait_for 10 ended "$pid"
refused 1 "cannot open '$node': Input/output error (os error 5) (what is behind it does not answer" serves path="$node"
vdpa dev del vduse2
