# More that scenarios share: a disk behind a driver, through all that clients do with disks. Needs lib.sh, and that the
# scenario has the device `nbd`.
#
# DRIVER WORD… is how the gateway's command line calls the disk. What was on the disk is lost.

# serve_and_check NAME BYTES DRIVER WORD…: serves the disk several times, with each kind of end. Then nobody serves it,
# and it has the contents of the file NAME.data, all of it. BYTES is its size, at least 12 MiB.
serve_and_check() {
    local name=$1 bytes=$2
    shift 2
    gateway_start "$name" "$@"
    check_size "$name" "$bytes"
    check_file_system "$name" /dev/nbd0
    check_operations "$name"
    check_two_clients "$name" "$bytes"
    random_file "$name.data" $((bytes >> 20))
    expect "a copy to $name" nbdcopy --flush "$name.data" "$(uri "$name")"
    check_contents "$name"
    gateway_stop "$name"
    check_after_term "$name" "$@"
    check_after_kill "$name" "$@"
    check_blkio "$name" "$@"
}

# check_size NAME BYTES: clients of the server on NAME.sock are told this size.
check_size() {
    expect "$1 has $2 bytes" [ "$(nbdinfo --size "$(uri "$1")")" = "$2" ]
}

# check_contents NAME [FILE [REQUEST]]: the server on NAME.sock has the contents of the file, by default of NAME.data.
# REQUEST: bytes of a request.
check_contents() {
    expect "a copy from $1" nbdcopy --request-size="${3:-262144}" "$(uri "$1")" "$1.back"
    expect "$1 gives back what it took" cmp "$1.back" "${2:-$1.data}"
    rm "$1.back"
}

# check_operations NAME: writes, zeroes of both kinds, discard and flush between 8 and 12 MiB, by the client of QEMU.
check_operations() {
    expect "qemu-io reads from $1 what it wrote, zeroed and discarded" qemu-io -f raw \
        -c "write -P 7 8M 4M" -c "read -P 7 8M 4M" \
        -c "write -z 9M 64k" -c "read -P 0 9M 64k" -c "read -P 7 9280k 64k" \
        -c "write -z -u 10M 1M" -c "read -P 0 10M 1M" -c "write -f -P 8 10M 4k" -c "read -P 8 10M 4k" \
        -c "discard 11M 512k" -c "write -P 9 11M 512k" -c "flush" \
        -c "read -P 9 11M 512k" -c "read -P 7 11776k 512k" "$(uri "$1")"
}

# fio_verify NAME OFFSET SIZE: writes all blocks of a range once, in random order, reads them back and compares.
fio_verify() {
    fio --name=verify --ioengine=nbd --uri="$(uri "$1")" --rw=randwrite --bsrange=4k-64k --blockalign=4k \
        --offset="$2" --size="$3" --iodepth=64 --verify=crc32c --verify_state_save=0 --output="$1-$2.fio"
}

# check_two_clients NAME BYTES: two clients at the same time, each in its half.
check_two_clients() {
    local lower upper half=$(($2 / 2))
    fio_verify "$1" 0 4M &
    lower=$!
    fio_verify "$1" $half 4M &
    upper=$!
    expect "fio verifies the lower half of $1" wait $lower
    expect "fio verifies the upper half of $1 at the same time" wait $upper
}

# check_file_system NAME NODE: the kernel's client makes a file system on the disk, and it is whole afterwards. NODE is
# a free /dev/nbdN.
check_file_system() {
    nbd_attach "$1" "$2" -b 4096
    expect "a file system is made on $1" mkfs.ext4 -q "$2"
    mkdir -p mounted
    mount -t ext4 "$2" mounted
    cp -r /modules /guest mounted
    umount mounted
    expect "the file system on $1 is whole" e2fsck -f -n "$2"
    mount -t ext4 -o ro "$2" mounted
    expect "the modules on $1 are the same" diff -r /modules mounted/modules
    expect "the scenarios on $1 are the same" diff -r /guest mounted/guest
    umount mounted
    nbd_detach "$2"
}

# check_after_term NAME DRIVER WORD…: a server after one that ended well. It goes on.
check_after_term() {
    gateway_start "$@"
    check_contents "$1"
}

# kill_under_load NAME: kills the server on NAME.sock in the middle of reads.
kill_under_load() {
    local load pid
    read -r pid <"$1.pid"
    fio --name=load --ioengine=nbd --uri="$(uri "$1")" --rw=randread --bs=4k --size=8M --iodepth=32 \
        --time_based --runtime=60 --output="$1-load.fio" 2>&1 &
    load=$!
    # Time to begin.
    sleep 1
    expect "a client of $1 is busy" alive $load
    kill -9 "$pid"
    wait_for 10 ended "$pid"
    ! wait $load || fail "the client of a server that was killed ended well"
}

# check_after_kill NAME DRIVER WORD…: a server after one that was killed has the same.
check_after_kill() {
    kill_under_load "$1"
    gateway_start "$@"
    check_contents "$1"
    gateway_stop "$1"
}

# Bytes of a request to nbdkit's plugin.
BLKIO_REQUEST=262144

# check_blkio NAME DRIVER WORD…: another implementation of the drivers finds what is in NAME.data.
check_blkio() {
    local name=$1 pid
    shift
    nbdkit -U "$name-blkio.sock" -P "$name-blkio.pid" blkio "$@"
    check_contents "$name-blkio" "$name.data" $BLKIO_REQUEST
    read -r pid <"$name-blkio.pid"
    kill "$pid"
    wait_for 10 ended "$pid"
}

# check_resets NAME COMMAND…: runs the command, which resets the device, several times while a client writes and
# verifies.
check_resets() {
    local name=$1 load
    shift
    fio --name=load --ioengine=nbd --uri="$(uri "$name")" --rw=randwrite --bs=4k --size=24M --offset=32M --iodepth=32 \
        --rate_iops=1000 --verify=crc32c --verify_state_save=0 --output="$name-reset.fio" 2>&1 &
    load=$!
    for round in 1 2 3; do
        sleep 1.5
        expect "a client of $name is busy" alive $load
        expect "reset $round of $name" "$@"
    done
    expect "no request failed meanwhile" wait $load
}
