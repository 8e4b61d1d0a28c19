# The driver io_uring passes every check on NVMe disks with short and with long blocks.
#
# devices: nvme-512 nvme-4096
# limit: 120
# beside: no
# programs: device-conformance
. /guest/lib.sh

expect "short blocks" device-conformance device io_uring path="$(nvme_disk nvme-512)"
expect "long blocks past the page cache" device-conformance device io_uring path="$(nvme_disk nvme-4096)" direct=true
