# In front of a vDPA disk in user space (VDUSE): copies, verification, discard and zeroes, ends of all kinds.
#
# devices: vdpa
# limit: 120
# beside: no
. /guest/lib.sh

random_file data 8
truncate -s 16M image
node=$(vdpa_create vduse0 "$PWD/image" num-queues=2)

gateway info virtio-blk-vhost-vdpa path="$node" >facts
expect "the size is known" grep -qx capacity=16777216 facts
expect "the number of queues is known" grep -qx max-queues=2 facts

gateway_start front virtio-blk-vhost-vdpa path="$node"
expect "nbdinfo knows the size" [ "$(nbdinfo --size "$(uri front)")" = 16777216 ]
expect "a copy to the disk" nbdcopy --flush data "$(uri front)"
expect "a copy from the disk" nbdcopy "$(uri front)" back
expect "it gives back what it took" same_head back data $((8 << 20))
expect "qemu-io writes, zeroes, discards and reads" qemu-io -f raw \
    -c "write -P 7 9M 1M" -c "read -P 7 9M 1M" -c "write -z 9M 64k" -c "read -P 0 9M 64k" \
    -c "discard 10M 1M" -c "flush" "$(uri front)"
expect "fio verifies what it writes" fio --name=v --ioengine=nbd --uri="$(uri front)" --rw=randwrite \
    --bsrange=4k-64k --blockalign=4k --size=4M --offset=11M --iodepth=32 --verify=crc32c \
    --verify_state_save=0 --output=fio.txt
! gateway info virtio-blk-vhost-vdpa path="$node" 2>busy || fail "two programs have the device"
expect "a second user is told why not" grep -q "another program has it open" busy
gateway_stop front
expect "the file behind it has the same" same_head image data $((8 << 20))

gateway_start again virtio-blk-vhost-vdpa path="$node" num-poll-queues=2
expect "polled queues work" nbdcopy "$(uri again)" back2
expect "and give the same" same_head back2 data $((8 << 20))
read -r pid <again.pid
kill -9 "$pid"
wait_for 10 ended "$pid"
gateway_start third virtio-blk-vhost-vdpa path="$node"
expect "the device works after a server that was killed" nbdcopy "$(uri third)" back3
expect "and gives the same" same_head back3 data $((8 << 20))
gateway_stop third
nbdkit -U nbdkit.sock -P nbdkit.pid blkio virtio-blk-vhost-vdpa path="$node"
expect "another program can use it after us" nbdcopy "nbd+unix:///?socket=$PWD/nbdkit.sock" back4
read -r pid <nbdkit.pid
kill "$pid"
wait_for 10 ended "$pid"
vdpa_remove vduse0
