# In front of a vDPA disk in user space (VDUSE): all that clients do, ends of all kinds, what the file behind it has.
#
# devices: vdpa nbd
# limit: 120
# beside: no
. /guest/lib.sh
. /guest/serving.sh

truncate -s 16M image
node=$(vdpa_create vduse0 "$PWD/image" num-queues=2)
gateway info virtio-blk-vhost-vdpa path="$node" >facts
expect "the size is known" grep -qx capacity=16777216 facts
expect "the number of queues is known" grep -qx max-queues=2 facts

serve_and_check front 16777216 virtio-blk-vhost-vdpa path="$node"
expect "the file behind it has the same" cmp image front.data

gateway_start again virtio-blk-vhost-vdpa path="$node" num-poll-queues=2
check_contents again front.data
! gateway info virtio-blk-vhost-vdpa path="$node" 2>busy || fail "two programs have the device"
expect "a second user is told why not" grep -q "another program has it open" busy

# allocated: bytes that the file takes.
allocated() {
    echo $(($(stat -c %b image) * 512))
}
before=$(allocated)
expect "a discard" qemu-io -f raw -c "discard 4M 4M" "$(uri again)"
expect "what is discarded is free" [ "$(allocated)" -le $((before - (4 << 20))) ]
expect "zeroes" qemu-io -f raw -c "write -z 10M 1M" "$(uri again)"
expect "zeroes are in the file" is_zero image 10 1
# The export does not offer to free what is to be zeroes, so only the contents can be checked.
expect "zeroes that may be holes" qemu-io -f raw -c "write -z -u 12M 2M" "$(uri again)"
expect "they are in the file" is_zero image 12 2
expect "nothing else has changed before" same_head image front.data $((4 << 20))
expect "nothing else has changed behind" cmp -n $((2 << 20)) image front.data $((14 << 20)) $((14 << 20))
gateway_stop again
vdpa_remove vduse0
