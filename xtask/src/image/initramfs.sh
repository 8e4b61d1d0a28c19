#!/bin/busybox sh
# First program of the bootable image's initial RAM disk: finds the partition named "root", mounts it
# read-only and hands over to its /sbin/init.
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys

give_up() {
    echo "bootable image: $1"
    poweroff -f
}

insmod /virtio_blk.ko || give_up "no driver for the disk"
tries=0
until found=$(grep -l '^PARTNAME=root$' /sys/class/block/*/uevent); do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || give_up "no partition named root"
    sleep 0.1
done
disk=/dev/$(basename "$(dirname "$found")")
mount -t ext4 -o ro "$disk" /root || give_up "cannot mount $disk"
for folder in /dev /proc /sys; do
    mount -o move $folder /root$folder
done
exec switch_root /root /sbin/init
