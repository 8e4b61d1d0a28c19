# What a driver needs of locked memory where little is allowed: nothing for a vDPA disk in user space.
#
# devices: vdpa
# limit: 60
# beside: no
. /guest/lib.sh

# limited COMMAND…: under a limit of 64 KiB, which root has to keep as well.
limited() {
    (
        ulimit -l 64
        exec /usr/bin/setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock "$@"
    )
}

random_file data 8
truncate -s 8M image
node=$(vdpa_create vduse5 "$PWD/image")
limited cat /proc/self/limits /proc/self/status >state
expect "the limit holds" grep -q "^Max locked memory  *65536  *65536 " state
# CAP_IPC_LOCK is bit 14.
capabilities=$(awk '$1 == "CapEff:" { print $2 }' state)
expect "without the capability" [ $((0x$capabilities >> 14 & 1)) = 0 ]
expect "a vDPA disk is served" limited gateway -U front.sock --run 'nbdcopy --flush data "$uri"' \
    virtio-blk-vhost-vdpa path="$node"
expect "what was written is there" cmp image data
vdpa_remove vduse5
