use std::path::PathBuf;

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Uri, BadUri> {
    Uri::parse(text, LocalFiles::Allow)
}

fn tcp(host: &str, port: u16) -> Transport {
    Transport::Tcp { host: host.into(), port }
}

#[test]
fn export_names_are_those_of_the_specification() {
    for (uri, export) in [
        ("nbd://example.com/disk", "disk"),
        ("nbd+unix:///disk?socket=sock", "disk"),
        ("nbd://example.com/", ""),
        ("nbd://example.com", ""),
        ("nbd://example.com//disk", "/disk"),
        ("nbd://example.com/hello%20world", "hello world"),
        ("nbd://h/a/b%2Fc+d", "a/b/c+d"),
        ("nbd://h/%C3%BC", "\u{fc}"),
        ("nbd+unix:////disk?socket=sock", "/disk"),
    ] {
        assert_eq!(parse(uri).unwrap().export, export, "{uri}");
    }
}

#[test]
fn hosts_and_ports_are_taken_apart() {
    for (uri, transport) in [
        ("nbd://localhost", tcp("localhost", 10809)),
        ("NBD://localhost:1234", tcp("localhost", 1234)),
        ("nbd://localhost:", tcp("localhost", 10809)),
        ("nbd:///x", tcp("localhost", 10809)),
        ("nbd://[::1]", tcp("::1", 10809)),
        ("nbd://[fe80::1%25eth0]:99/x", tcp("fe80::1%eth0", 99)),
        ("nbd://user@h:1", tcp("h", 1)),
        ("nbd+vsock://5:77/x", Transport::Vsock { cid: 5, port: 77 }),
        ("nbd+vsock:///x", Transport::Vsock { cid: 2, port: 10809 }),
        ("nbd+vsock://3:4294967295", Transport::Vsock { cid: 3, port: u32::MAX }),
    ] {
        assert_eq!(parse(uri).unwrap().transport, transport, "{uri}");
    }
}

#[test]
fn schemes_say_whether_encryption_is_a_must() {
    for scheme in ["nbd", "nbd+vsock", "nbd+ssh"] {
        assert_eq!(parse(&format!("{scheme}://1/")).unwrap().tls, UriTls::Opportunistic);
    }
    for scheme in ["nbds", "NBDS+vsock", "nbds+SSH"] {
        assert_eq!(parse(&format!("{scheme}://1/")).unwrap().tls, UriTls::Required);
    }
    assert_eq!(parse("nbds+unix:///?socket=s").unwrap().tls, UriTls::Required);
}

#[test]
fn unix_sockets_are_paths_or_abstract_names() {
    let socket = |uri| match parse(uri).unwrap().transport {
        Transport::Unix(socket) => socket,
        other => panic!("{other:?}"),
    };
    assert_eq!(socket("nbd+unix:///?socket=/tmp/s%20k"), UnixSocket::Path(PathBuf::from("/tmp/s k")));
    assert_eq!(socket("nbd+unix:///?socket=%00/abs%00tract"), UnixSocket::Abstract(b"/abs\0tract".to_vec()));
    assert_eq!(parse("nbd+unix:///x"), Err(BadUri::NoSocket));
    assert_eq!(parse("nbd+unix:///x?socket="), Err(BadUri::NoSocket));
    assert_eq!(parse("nbd+unix:///x?socket=%00"), Err(BadUri::NoSocket));
    assert_eq!(parse("nbd+unix://host/x?socket=s"), Err(BadUri::HostWithSocket));
    assert_eq!(parse("nbd+unix://:1/x?socket=s"), Err(BadUri::HostWithSocket));
    assert_eq!(parse("nbd+unix://alice@/x?socket=s").unwrap().user.as_deref(), Some("alice"));
}

#[test]
fn ssh_tunnels_name_the_server_behind_them() {
    let uri = parse("nbd+ssh://root@h:2222/x?nbd-port=1234&compress=1").unwrap();
    let expected =
        Transport::Ssh { host: "h".into(), ssh_port: 2222, remote: Remote::Port(1234), compress: true };
    assert_eq!((uri.transport, uri.user.as_deref()), (expected, Some("root")));
    let uri = parse("nbd+ssh://h/?socket=/s").unwrap();
    let remote = Remote::Socket(UnixSocket::Path("/s".into()));
    assert_eq!(uri.transport, Transport::Ssh { host: "h".into(), ssh_port: 22, remote, compress: false });
    assert!(parse("nbd+ssh://h/?socket=/s&nbd-port=1").is_err());
    assert!(parse("nbd+ssh:///x").is_err());
}

#[test]
fn a_host_cannot_pass_for_an_option() {
    for uri in ["nbd+ssh://-oProxyCommand=x", "nbd+ssh://%2DoProxyCommand=x", "nbd://-h"] {
        assert!(matches!(parse(uri), Err(BadUri::Host(_))), "{uri}");
    }
}

#[test]
fn tls_parameters_are_understood() {
    let uri = "nbds://h/?tls-type=psk&tls-hostname=real.example&tls-verify-peer=0&tls-username=bob\
               &tls-certificates=/pki&tls-psk-file=/keys.psk&x-foo=bar";
    let parsed = parse(uri).unwrap();
    let expected = TlsParameters {
        kind: Some(TlsKind::Psk),
        hostname: Some("real.example".into()),
        verify_peer: Some(false),
        username: Some("bob".into()),
        certificates: Some("/pki".into()),
        psk_file: Some("/keys.psk".into()),
    };
    assert_eq!(parsed.tls_parameters, expected);
    assert_eq!(parsed.experimental, [("x-foo".to_owned(), "bar".to_owned())]);
}

#[test]
fn local_files_need_a_trusted_caller() {
    let uri = "nbds://h/?tls-psk-file=/etc/shadow";
    assert!(parse(uri).is_ok());
    assert_eq!(uri.parse::<Uri>(), Err(BadUri::LocalFile("tls-psk-file".into())));
    assert!("nbds://h/?tls-certificates=/x".parse::<Uri>().is_err());
}

#[test]
fn what_is_wrong_is_told() {
    for (uri, error) in [
        ("http://h/", BadUri::Scheme),
        ("nbd:h", BadUri::Scheme),
        ("nbd+tcp://h", BadUri::Scheme),
        ("nbd+://h", BadUri::Scheme),
        ("nbdx://h", BadUri::Scheme),
        ("", BadUri::Scheme),
        ("nbd://h/a b", BadUri::Character),
        ("nbd://h/a\n", BadUri::Character),
        ("nbd://h/%", BadUri::PercentCoding),
        ("nbd://h/%2", BadUri::PercentCoding),
        ("nbd://h/%g0", BadUri::PercentCoding),
        ("nbd://h/%+1", BadUri::PercentCoding),
        ("nbd://h/%00", BadUri::Text("the export's name")),
        ("nbd://h/%ff", BadUri::Text("the export's name")),
        ("nbd://h:0", BadUri::Number("0".into())),
        ("nbd://h:65536", BadUri::Number("65536".into())),
        ("nbd://h:+1", BadUri::Number("+1".into())),
        ("nbd://h:1:2", BadUri::Number("1:2".into())),
        ("nbd+vsock://host", BadUri::Number("host".into())),
        ("nbd://[::1", BadUri::Host("[::1".into())),
        ("nbd://[::1]x", BadUri::Host("[::1]x".into())),
        ("nbd://[h]", BadUri::Host("[h]".into())),
        ("nbd://h/?socket=s", BadUri::UnknownParameter("socket".into())),
        ("nbd://h/?foo=1", BadUri::UnknownParameter("foo".into())),
        ("nbd://h/?x-a=1&x-a=2", BadUri::RepeatedParameter("x-a".into())),
        ("nbd://h/?tls-type=none", BadUri::Value("tls-type", "none".into())),
        ("nbd://h/?tls-verify-peer=yes", BadUri::Value("tls-verify-peer", "yes".into())),
        ("nbd://h/x#y", BadUri::Fragment),
    ] {
        assert_eq!(parse(uri), Err(error), "{uri}");
    }
    assert!(matches!(parse(&format!("nbd://h/{}", "x".repeat(4097))), Err(BadUri::Export(_))));
}

#[test]
fn printing_is_canonical() {
    for (uri, printed) in [
        ("NBD://h", "nbd://h:10809"),
        ("nbd://h/", "nbd://h:10809"),
        ("nbd://[::1]/", "nbd://[::1]:10809"),
        ("nbd://h//disk", "nbd://h:10809//disk"),
        ("nbd://h/?x-a=b&tls-type=anon", "nbd://h:10809?tls-type=anon&x-a=b"),
        ("nbd+unix:///?socket=/a'b&c", ""),
        ("nbd+unix:///e%26x?socket=/a'b%26c", "nbd+unix:///e%26x?socket=/a%27b%26c"),
        ("nbds+unix://al%40ice@/?socket=%00n", "nbds+unix://al%40ice@/?socket=%00n"),
        ("nbd+vsock://2", "nbd+vsock://2:10809"),
        ("nbd+ssh://h", "nbd+ssh://h:22?nbd-port=10809"),
    ] {
        match parse(uri) {
            Ok(parsed) => assert_eq!(parsed.to_string(), printed),
            Err(_) => assert_eq!(printed, "", "{uri}"),
        }
    }
}

#[test]
fn words_for_shells_are_quoted_when_needed() {
    assert_eq!(shell_quote("nbd://localhost:10809/x%20y"), "nbd://localhost:10809/x%20y");
    assert_eq!(shell_quote("nbd+unix:///?socket=/s&x"), "'nbd+unix:///?socket=/s&x'");
    assert_eq!(shell_quote("it's"), r"'it'\''s'");
    assert_eq!(shell_quote(""), "''");
    assert_eq!(shell_quote("~"), "'~'");
}

fn any_transport() -> impl Strategy<Value = Transport> {
    let path = "/?[^\0]{1,30}".prop_map(|path| UnixSocket::Path(path.into()));
    let abstract_name = prop::collection::vec(any::<u8>(), 1..20).prop_map(UnixSocket::Abstract);
    let socket = prop_oneof![path, abstract_name];
    let remote = prop_oneof![(1u16..).prop_map(Remote::Port), socket.clone().prop_map(Remote::Socket)];
    let host =
        prop_oneof!["[a-z0-9.]{1,20}", "[0-9a-f]{1,4}::[0-9a-f]{1,4}(%[a-z]{1,4})?", "\u{fc}[!-,]{0,3}"];
    prop_oneof![
        (host.clone(), 1u16..).prop_map(|(host, port)| Transport::Tcp { host, port }),
        socket.prop_map(Transport::Unix),
        any::<(u32, u32)>().prop_map(|(cid, port)| Transport::Vsock { cid, port }),
        (host, 1u16.., remote, any::<bool>()).prop_map(|(host, ssh_port, remote, compress)| {
            Transport::Ssh { host, ssh_port, remote, compress }
        }),
    ]
}

fn any_uri() -> impl Strategy<Value = Uri> {
    let text = || prop::option::of("[^\0]{1,20}");
    let kind = prop::option::of(prop::sample::select(vec![TlsKind::Anonymous, TlsKind::X509, TlsKind::Psk]));
    let tls = (kind, text(), any::<Option<bool>>(), text(), text(), text()).prop_map(
        |(kind, hostname, verify_peer, username, certificates, psk_file)| TlsParameters {
            kind,
            hostname,
            verify_peer,
            username,
            certificates: certificates.map(PathBuf::from),
            psk_file: psk_file.map(PathBuf::from),
        },
    );
    let experimental = prop::option::of(("x-[^\0]{0,10}", "[^\0]{0,10}"));
    (any_transport(), any::<bool>(), "[^\0]{0,40}", text(), tls, experimental).prop_map(
        |(transport, required, export, user, tls_parameters, experimental)| Uri {
            transport,
            tls: if required { UriTls::Required } else { UriTls::Opportunistic },
            export,
            user,
            tls_parameters,
            experimental: experimental.into_iter().collect(),
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_is_parsed(uri in any_uri()) {
        let printed = uri.to_string();
        prop_assert!(printed.is_ascii());
        prop_assert_eq!(parse(&printed), Ok(uri), "{}", printed);
    }

    #[test]
    fn what_is_parsed_prints_to_itself(rest in "[ -~]{0,60}", scheme in "nbds?(\\+(unix|vsock|ssh))?://") {
        if let Ok(uri) = parse(&format!("{scheme}{rest}")) {
            prop_assert_eq!(parse(&uri.to_string()), Ok(uri));
        }
    }

    #[test]
    fn any_text_is_survived(text: String) {
        let _ = parse(&text);
        let _ = shell_quote(&text);
    }

    #[test]
    fn percent_coding_comes_back(bytes: Vec<u8>) {
        let text = percent_encode(&bytes, "/");
        prop_assert_eq!(percent_decode(&text), Ok(bytes));
    }
}
