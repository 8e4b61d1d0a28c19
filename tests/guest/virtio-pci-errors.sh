# Everything that is wrong with a virtio disk on the PCI bus or the way it is given: one clear message each.
#
# devices: virtio-split virtio-odd nvme-512
# limit: 120
# beside: no
# emulator: one-thread
. /guest/lib.sh

sysfs() {
    echo "/sys/bus/pci/devices/$(pci_address "$1")"
}

# served WORD…: the driver with these properties. RUN goes before the command.
RUN=
served() {
    # shellcheck disable=SC2086 # RUN is a list of words.
    $RUN gateway info virtio-blk-vfio-pci "$@"
}

# Words.
refused 2 "needs the property 'path'" served
refused 2 "has no property 'nonsense'" served path=/nowhere nonsense=1
# Places.
refused 1 "find the PCI device '/sys/bus/pci/devices/0000:00:1f.7'" served path=/sys/bus/pci/devices/0000:00:1f.7
refused 1 "'/tmp' is no PCI device" served path=/tmp
refused 1 "'/dev/null' is no PCI device" served path=/dev/null
refused 1 "'/sys/class/net/lo' is no PCI device" served path=/sys/class/net/lo
# Bindings.
refused 1 "belongs to the driver virtio-pci, not to vfio-pci" served path="$(sysfs virtio-split)"
expect "with the remedy" grep -q "driver/unbind; echo 0000:00:12.0 >/sys/bus/pci/drivers_probe" refused.err
address=$(pci_address virtio-split)
echo "$address" >"$(sysfs virtio-split)/driver/unbind"
refused 1 "has no driver, not to vfio-pci" served path="$(sysfs virtio-split)"
vfio_bind virtio-legacy
refused 1 "other devices in it are in use: 0000:00:14.1 (virtio-pci)" served path="$(sysfs virtio-legacy)"
vfio_bind virtio-rng
# Devices.
refused 1 "is a legacy-only virtio device" served path="$(sysfs virtio-legacy)"
refused 1 "is a virtio device of type 4, and no disk" served path="$(sysfs virtio-rng)"
vfio_bind virtio-bypass
refused 1 "does not reach memory through the IOMMU" served path="$(sysfs virtio-bypass)"
vfio_bind nvme-512
refused 1 "is no virtio device, but 1b36:0010" served path="$(sysfs nvme-512)"
# What the device does not have.
node=$(vfio_bind virtio-split)
refused 2 "'queue-size' cannot be 100" served path="$(sysfs virtio-split)" queue-size=100
refused 1 "queues, not 40" served path="$(sysfs virtio-split)" num-queues=40
refused 1 "has queues of at most 1024 entries, not 2048" served path="$(sysfs virtio-split)" queue-size=2048
# Permissions, and memory that may be locked.
# busybox has another setpriv inside.
RUN="/usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups"
refused 1 "open $node: Permission denied" served path="$(sysfs virtio-split)"
expect "with the remedy" grep -q "chown USER $node" refused.err
chown 1000 "$node"
(
    ulimit -l 1024
    refused 1 "this process may lock 1 MiB" served path="$(sysfs virtio-split)" --memory 8M
)
ulimit -l 65536
# shellcheck disable=SC2086 # RUN is a list of words.
expect "with leave it needs no root" $RUN gateway info virtio-blk-vfio-pci path="$(sysfs virtio-split)"
RUN=
# One user at a time.
gateway_start front virtio-blk-vfio-pci path="$(sysfs virtio-split)"
refused 1 "open $node: Device or resource busy" served path="$(sysfs virtio-split)"
gateway_stop front
