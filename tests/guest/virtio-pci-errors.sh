# Everything that is wrong with a virtio disk on the PCI bus or the way it is given: one clear message each.
#
# devices: virtio-split virtio-odd nvme-512
# limit: 120
# beside: no
. /guest/lib.sh

sysfs() {
    echo "/sys/bus/pci/devices/$(pci_address "$1")"
}

# refused STATUS TEXT WORD…: the driver with these words ends so, and says so in one message. RUN goes before the
# command.
RUN=
refused() {
    wanted_status=$1 wanted_text=$2
    shift 2
    said_status=0
    # shellcheck disable=SC2086 # RUN is a list of words.
    $RUN timeout 20 gateway info virtio-blk-vfio-pci "$@" >said 2>&1 || said_status=$?
    [ "$said_status" = "$wanted_status" ] || fail "status $said_status of \`$*\`: $(cat said)"
    grep -qF -- "$wanted_text" said || fail "no '$wanted_text' about \`$*\`: $(cat said)"
    [ "$(wc -l <said)" = 1 ] || fail "not one message about \`$*\`: $(cat said)"
    ! grep -q panicked said || fail "a panic about \`$*\`"
    echo "ok: $wanted_text"
}

# Words.
refused 2 "needs the property 'path'"
refused 2 "has no property 'nonsense'" path=/nowhere nonsense=1
# Places.
refused 1 "find the PCI device '/sys/bus/pci/devices/0000:00:1f.7'" path=/sys/bus/pci/devices/0000:00:1f.7
refused 1 "'/tmp' is no PCI device" path=/tmp
refused 1 "'/dev/null' is no PCI device" path=/dev/null
refused 1 "'/sys/class/net/lo' is no PCI device" path=/sys/class/net/lo
# Bindings.
refused 1 "belongs to the driver virtio-pci, not to vfio-pci" path="$(sysfs virtio-split)"
grep -q "driver/unbind; echo 0000:00:12.0 >/sys/bus/pci/drivers_probe" said || fail "no remedy: $(cat said)"
address=$(pci_address virtio-split)
echo "$address" >"$(sysfs virtio-split)/driver/unbind"
refused 1 "has no driver, not to vfio-pci" path="$(sysfs virtio-split)"
vfio_bind virtio-legacy
refused 1 "other devices in it are in use: 0000:00:14.1 (virtio-pci)" path="$(sysfs virtio-legacy)"
vfio_bind virtio-rng
# Devices.
refused 1 "is a legacy-only virtio device" path="$(sysfs virtio-legacy)"
refused 1 "is a virtio device of type 4, and no disk" path="$(sysfs virtio-rng)"
vfio_bind virtio-bypass
refused 1 "does not reach memory through the IOMMU" path="$(sysfs virtio-bypass)"
vfio_bind nvme-512
refused 1 "is no virtio device, but 1b36:0010" path="$(sysfs nvme-512)"
# What the device does not have.
node=$(vfio_bind virtio-split)
refused 2 "'queue-size' cannot be 100" path="$(sysfs virtio-split)" queue-size=100
refused 1 "queues, not 40" path="$(sysfs virtio-split)" num-queues=40
refused 1 "has queues of at most 1024 entries, not 2048" path="$(sysfs virtio-split)" queue-size=2048
# Permissions, and memory that may be locked.
# busybox has another setpriv inside.
RUN="/usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups"
refused 1 "open $node: Permission denied" path="$(sysfs virtio-split)"
grep -q "chown USER $node" said || fail "no remedy: $(cat said)"
chown 1000 "$node"
(
    ulimit -l 1024
    refused 1 "this process may lock 1 MiB" path="$(sysfs virtio-split)" --memory 8M
)
ulimit -l 65536
# shellcheck disable=SC2086 # RUN is a list of words.
expect "with leave it needs no root" $RUN gateway info virtio-blk-vfio-pci path="$(sysfs virtio-split)"
RUN=
# One user at a time.
gateway_start front virtio-blk-vfio-pci path="$(sysfs virtio-split)"
refused 1 "open $node: Device or resource busy" path="$(sysfs virtio-split)"
gateway_stop front
