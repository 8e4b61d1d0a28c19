# The kernel's own client makes a file system on a RAM disk, and the file system is whole afterwards.
#
# devices: nbd
# limit: 60
# beside: yes
. /guest/lib.sh

gateway_start disk memory 64M
nbd_attach disk /dev/nbd0 -b 4096
echo "flags: fua $(cat /sys/block/nbd0/queue/fua), discard $(cat /sys/block/nbd0/queue/discard_max_bytes)"
expect "a file system is made" mkfs.ext4 -q /dev/nbd0
mkdir mounted
mount -t ext4 /dev/nbd0 mounted
cp -r /modules /guest mounted
umount mounted
expect "the file system is whole" e2fsck -f -n /dev/nbd0
mount -t ext4 -o ro /dev/nbd0 mounted
expect "the modules are the same" diff -r /modules mounted/modules
expect "the scenarios are the same" diff -r /guest mounted/guest
umount mounted
nbd_detach /dev/nbd0
gateway_stop disk
