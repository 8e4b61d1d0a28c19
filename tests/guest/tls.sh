# Sessions of TLS 1.2 over TCP are encrypted by the kernel, those of 1.3 are not: images go both ways, and the kernel's
# NBD client is served too.
#
# devices: nbd
# limit: 120
# beside: yes
. /guest/lib.sh

port=21810

# tls_start OPTION…: serves on the port; what it says is in the file log.
tls_start() {
    rm -f tls.pid
    GATEWAY_LOG=gateway=debug gateway -p $port --pidfile tls.pid "$@" memory 64M 2>log &
    server_pid=$!
    while [ ! -s tls.pid ]; do
        alive $server_pid || fail "the gateway ended at its start: $(cat log)"
        sleep 0.05
    done
}

# tls_stop: it must end well.
tls_stop() {
    gateway_stop tls
    cat log
    expect "no client was complained of" [ "$(grep -c ' WARN ' log)" = 0 ]
    expect "the process encrypts TLS 1.3" [ "$(grep -c ' is TLSv1.3 .* in process, ' log)" -ge 2 ]
    expect "nobody else does" [ "$(grep -c ' is TLSv1.3 .* by the kernel, ' log)" = 0 ]
}

# both_ways URI: an image to the server and back, by each version.
both_ways() {
    random_file there 24
    expect "a copy to the server" nbdcopy --flush there "$1"
    expect "a copy from the server by TLS 1.2" env GNUTLS_SYSTEM_PRIORITY_FILE="$PWD/older" nbdcopy "$1" back
    expect "the image comes back as it went" cmp -n $((24 << 20)) there back
    expect "a copy to the server by TLS 1.2" env GNUTLS_SYSTEM_PRIORITY_FILE="$PWD/older" nbdcopy --flush there "$1"
    rm back
    expect "a copy from the server" nbdcopy "$1" back
    expect "the image comes back as it went" cmp -n $((24 << 20)) there back
    rm there back
}

printf '[overrides]\ndisabled-version = tls1.3\n' >older

gateway pki pki --client alice
client=$PWD/pki/alice

tls_start --tls-certificates pki --tls-verify-peer
both_ways "nbds://127.0.0.1:$port?tls-certificates=$client"
# Its process decrypts for the kernel's client.
/usr/sbin/nbd-client 127.0.0.1 $port /dev/nbd0 -b 4096 -H localhost \
    -A "$client/ca-cert.pem" -F "$client/client-cert.pem" -K "$client/client-key.pem"
random_file there 8
dd if=there of=/dev/nbd0 bs=1M oflag=direct 2>/dev/null
dd if=/dev/nbd0 of=back bs=1M count=8 iflag=direct 2>/dev/null
expect "the kernel's client reads what it wrote" cmp there back
nbd_detach /dev/nbd0
tls_stop
expect "the kernel encrypts TLS 1.2" [ "$(grep -c ' is TLSv1.2 .* by the kernel, ' log)" -ge 3 ]
expect "nobody else does" [ "$(grep -c ' is TLSv1.2 .* in process, ' log)" = 0 ]

tls_start --tls-psk pki/keys.psk
both_ways "nbds://alice@127.0.0.1:$port?tls-psk-file=$client/keys.psk"
# GnuTLS takes a cipher that this kernel may not have.
tls_stop
expect "TLS 1.2 is there too" [ "$(grep -c ' is TLSv1.2 ' log)" -ge 2 ]
