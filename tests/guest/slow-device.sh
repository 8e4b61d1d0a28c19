# A disk that takes 200 ms for each request keeps its own clients waiting, and nobody else.
#
# devices: nvme-512
# limit: 60
# beside: no
. /guest/lib.sh

# read_randomly NAME SECONDS: clients' reads; prints what was read in KiB, and the shortest time of a request in
# microseconds (fio, "Terse output").
read_randomly() {
    fio --name=reads --ioengine=nbd --uri="$(uri "$1")" --rw=randread --bs=4k --size=32M --iodepth=32 \
        --time_based --runtime="$2" --minimal --output="$1.fio"
    awk -F ';' '{ print $6, $14 }' "$1.fio"
}

disk=$(nvme_disk nvme-512)
# Nobody here answers its question whether the node is there.
dmsetup create slow --noudevsync --table "0 $(blockdev --getsz "$disk") delay $disk 0 200"
gateway_start slow io_uring path=/dev/dm-0 direct=true
gateway_start fast memory 64M

read -r alone _ <<END
$(read_randomly fast 3)
END
read_randomly slow 8 >slow.read &
load=$!
# Time to begin.
sleep 1
read -r beside _ <<END
$(read_randomly fast 3)
END
expect "the slow disk was busy meanwhile" alive $load
expect "its server answers new clients" nbdinfo --size "$(uri slow)"
wait $load
read -r read shortest <slow.read
echo "the fast disk alone $alone KiB, beside the slow one $beside KiB; the slow one $read KiB, at best $shortest us"
# Half of it will do: clocks of emulated machines are coarse.
expect "all that the slow disk got was slow" [ "$shortest" -ge 100000 ]
expect "it did more than one batch" [ "$read" -gt $((32 * 4)) ]
expect "the fast disk did at least half of what it does alone" [ $((2 * beside)) -ge "$alone" ]
gateway_stop slow
gateway_stop fast
dmsetup remove --noudevsync slow
