# The kernel's own client makes a file system on a RAM disk, and the file system is whole afterwards.
#
# devices: nbd
# limit: 60
# beside: yes
. /guest/lib.sh
. /guest/serving.sh

gateway_start disk memory 64M
nbd_attach disk /dev/nbd0 -b 4096
expect "the kernel knows of FUA" [ "$(cat /sys/block/nbd0/queue/fua)" = 1 ]
expect "the kernel knows of discard" [ "$(cat /sys/block/nbd0/queue/discard_max_bytes)" -gt 0 ]
nbd_detach /dev/nbd0
check_file_system disk /dev/nbd0
gateway_stop disk
