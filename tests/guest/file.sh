# Serves a file and an NVMe disk through io_uring, the disk also past the page cache; each gives back what it took.
#
# devices: nvme-512
# limit: 60
# beside: yes
. /guest/lib.sh

MEBIBYTES=8
BYTES=$((MEBIBYTES << 20))

# there_and_back NAME PATH [PROPERTY]…: through the gateway, compared with what the kernel reads from the same place.
there_and_back() {
    name=$1 path=$2
    shift 2
    gateway_start "$name" io_uring path="$path" "$@"
    nbdinfo --no-content "$(uri "$name")" >"$ARTEFACTS/$name.nbdinfo"
    expect "a copy to $name" nbdcopy --flush data "$(uri "$name")"
    expect "a copy from $name" nbdcopy "$(uri "$name")" "$name.back"
    expect "$name gives back what it took" same_head "$name.back" data $BYTES
    gateway_stop "$name"
    expect "$name has it without the gateway" same_head "$path" data $BYTES
}

random_file data $MEBIBYTES
truncate -s 12M image
there_and_back file image
disk=$(nvme_disk nvme-512)
there_and_back block "$disk"
# Other contents, or what the first copy left would do.
random_file data $MEBIBYTES
there_and_back direct "$disk" direct=true
