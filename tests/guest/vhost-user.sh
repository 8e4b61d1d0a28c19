# In front of a vhost-user disk of qemu-storage-daemon: what is copied to it is in the file behind it.
#
# devices: none
# limit: 60
# beside: yes
. /guest/lib.sh

random_file data 8
truncate -s 12M image
storage_daemon_start back --blockdev driver=file,node-name=f,filename=image,discard=unmap \
    --export type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path=back.sock,writable=on,num-queues=2
gateway_start front virtio-blk-vhost-user path="$PWD/back.sock"
expect "a copy to the disk" nbdcopy --flush data "$(uri front)"
expect "a copy from the disk" nbdcopy "$(uri front)" back
expect "it gives back what it took" same_head back data $((8 << 20))
gateway_stop front
storage_daemon_stop back
expect "the file behind it has the same" same_head image data $((8 << 20))
