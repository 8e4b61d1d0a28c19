# A vDPA disk that grows or shrinks tells so: new clients get the new size, old ones errors where nothing is any more.
#
# devices: vdpa
# limit: 60
# beside: no
. /guest/lib.sh

truncate -s 16M image
mkfifo qmp.in qmp.out
storage_daemon_start vduse4 --chardev pipe,id=qmp,path="$PWD/qmp" --monitor chardev=qmp \
    --blockdev driver=file,node-name=disk,filename="$PWD/image",discard=unmap \
    --export type=vduse-blk,id=vduse4,node-name=disk,name=vduse4,writable=on
cat qmp.out >answers &
echo '{"execute": "qmp_capabilities"}' >qmp.in
vdpa dev add name vduse4 mgmtdev vduse
wait_for 5 find_vdpa vduse4
node=$(find_vdpa vduse4)

# has_size BYTES: whether a new client is told this size.
has_size() {
    [ "$(nbdinfo --size "$(uri front)")" = "$1" ]
}
# resize BYTES
resize() {
    echo "{\"execute\": \"block_resize\", \"arguments\": {\"node-name\": \"disk\", \"size\": $1}}" >qmp.in
}

gateway_start front virtio-blk-vhost-vdpa path="$node"
expect "it has its first size" has_size 16777216
resize 33554432
wait_for 10 has_size 33554432
expect "what was added can be used" qemu-io -f raw -c "read -P 0 16M 16M" -c "write -P 5 31M 1M" -c flush \
    -c "read -P 5 31M 1M" "$(uri front)"
expect "it is in the file" [ "$(stat -c %s image)" = 33554432 ]

# A client that stays connected, told what to do line by line.
mkfifo commands
qemu-io -f raw "$(uri front)" <commands >said 2>&1 &
exec 5>commands
# says COUNT TEXT: whether the client has said this so often.
says() {
    [ "$(grep -c "$2" said)" = "$1" ]
}
echo "read 12M 4k" >&5
wait_for 5 says 1 "read 4096/4096"
resize 8388608
wait_for 10 has_size 8388608
echo "read 12M 4k" >&5
wait_for 5 says 1 "Input/output error"
echo "ok: what is gone gives errors to who knew it"
echo "read 7M 4k" >&5
wait_for 5 says 2 "read 4096/4096"
echo "ok: the rest is served"
exec 5>&-
gateway_stop front
cat answers
! grep error answers || fail "the daemon refused something"
vdpa_remove vduse4
