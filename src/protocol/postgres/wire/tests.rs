use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

const CLIENT: Side = Side::Client { message_bytes: 1_000 };

fn startup(pairs: &[(&str, &str)]) -> StartupPacket {
    let mut packet = StartupPacket::new(0);
    pairs.iter().for_each(|(name, value)| packet.set(name, value));
    packet
}

fn first(bytes: &[u8]) -> Result<FirstPacket, PacketError> {
    let mut packet = u32::try_from(4 + bytes.len()).unwrap().to_be_bytes().to_vec();
    packet.extend_from_slice(bytes);
    parse_first(&packet)
}

fn setting(name: &str, value: &str) -> Setting {
    Setting { name: name.into(), value: value.into() }
}

#[test]
fn a_message_shorter_than_its_own_length_or_longer_than_its_kind_may_be_is_refused() {
    let read = |bytes: &[u8]| frames::read_all(CLIENT, bytes, 64).2;
    assert_eq!(read(b"Q\0\0\0\x03"), Some(FrameError::TooShort { tag: b'Q', length: 3 }));
    assert_eq!(read(b"Q\0\0\0\0"), Some(FrameError::TooShort { tag: b'Q', length: 0 }));
    assert_eq!(read(b"Q\xff\xff\xff\xff"), Some(FrameError::TooLong { tag: b'Q', length: u32::MAX, longest: 1_000 }));
    assert_eq!(read(b"P\0\0\x03\xe9"), Some(FrameError::TooLong { tag: b'P', length: 1_001, longest: 1_000 }));
    assert_eq!(read(b"d\0\0\x03\xe9"), None, "COPY data may be long");
    assert_eq!(read(b"?\0\0\0\x04"), Some(FrameError::Tag { tag: b'?' }));
}

#[test]
fn a_long_error_is_cut_and_the_next_message_is_seen_behind_it() {
    use super::frames::read_all;
    for (tag, letter) in [(b'E', "x"), (b'E', "€"), (b'N', "xé")] {
        let body = [b"SERROR\0C22P02\0M", letter.repeat(3_000_000 / letter.len()).as_bytes(), b"\0\0"].concat();
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        let sent = [&[tag][..], &length, &body, b"Z\0\0\0\x05I"].concat();
        for piece in [4_096, sent.len()] {
            let (frames, rest, error) = read_all(Side::Server, &sent, piece);
            assert_eq!((frames.len(), rest.len(), error), (2, 0, None));
            assert_eq!(frames[1].as_bytes(), &b"Z\0\0\0\x05I"[..]);
            let cut = &frames[0];
            assert!(cut.as_bytes().len() <= 1024 * 1024 + 2, "{}", cut.as_bytes().len());
            let told = u32::from_be_bytes(cut.as_bytes()[1..5].try_into().unwrap()) as usize;
            assert_eq!(told + 1, cut.as_bytes().len());
            let fields: Vec<_> = error_fields(cut.body()).collect();
            assert_eq!(fields[1], (b'C', &b"22P02"[..]));
            assert!(
                str::from_utf8(fields[2].1)
                    .is_ok_and(|message| message.ends_with(letter.chars().last().unwrap()) || letter == "xé")
            );
        }
    }
}

#[test]
fn long_rows_pass_in_pieces_and_the_next_message_is_seen_behind_them() {
    let mut bytes = BytesMut::new();
    frame(&mut bytes, b'D', |out| out.extend_from_slice(&[7; 100]));
    frame(&mut bytes, b'D', |out| out.extend_from_slice(&[8; 100]));
    ready_for_query(&mut bytes, b'I');
    let mut reader = FrameReader::new(Side::Server, BytesMut::from(&bytes[..150]));
    let passed = reader.pass(b"Dd").unwrap().unwrap();
    assert_eq!((passed.bytes.len(), passed.begun), (150, 2));
    assert_eq!(reader.next(), Ok(None), "a frame is not looked for in the middle of a row");
    let mut source = &bytes[150..];
    futures_util::future::FutureExt::now_or_never(reader.fill(&mut source)).unwrap().unwrap();
    let passed = reader.pass(b"Dd").unwrap().unwrap();
    assert_eq!((passed.bytes.len(), passed.begun), (60, 0));
    let ready = reader.next().unwrap().unwrap();
    assert_eq!((ready.tag(), ready.body()), (b'Z', b"I".as_slice()));
}

#[test]
fn first_packets_are_told_apart() {
    assert_eq!(first(&80_877_103_u32.to_be_bytes()), Ok(FirstPacket::SslRequest));
    assert_eq!(first(&80_877_104_u32.to_be_bytes()), Ok(FirstPacket::GssEncRequest));
    let cancel = [80_877_102_u32, 7, 0x01020304].map(u32::to_be_bytes).concat();
    let secret = Bytes::from_static(&[1, 2, 3, 4]);
    assert_eq!(first(&cancel), Ok(FirstPacket::Cancel(CancelRequest { pid: 7, secret })));
    let expected = startup(&[("user", "alice"), ("database", "wh")]);
    assert_eq!(first(b"\0\x03\0\0user\0alice\0database\0wh\0\0"), Ok(FirstPacket::Startup(expected)));
}

#[test]
fn what_is_no_first_packet_is_refused_with_its_reason() {
    for (body, expected) in [
        (b"\0\x02\0\0\0".as_slice(), PacketError::Version { major: 2, minor: 0 }),
        (b"\0\x04\0\0\0", PacketError::Version { major: 4, minor: 0 }),
        (b"\0\x03\0\0", PacketError::Terminator),
        (b"\0\x03\0\0user\0alice\0", PacketError::Terminator),
        (b"\0\x03\0\0user\0alice", PacketError::Terminator),
        (b"\0\x03\0\0user\0\0", PacketError::Terminator),
        (b"\0\x03\0\0user\0alice\0\0x\0y\0\0", PacketError::EmptyName),
        (b"\0\x03\0\0user\0a\0user\0b\0\0", PacketError::Repeated { name: "user".into() }),
        (b"\0\x03\0\0user\0a\0Role\0b\0role\0c\0\0", PacketError::Repeated { name: "role".into() }),
        (b"\0\x03\0\0user\0\xff\0\0", PacketError::Encoding),
        (b"\x04\xd2\x16\x2f\0", PacketError::RequestLength { code: "SSLRequest", bytes: 9 }),
        (b"\x04\xd2\x16\x2e\0\0\0\x01", PacketError::RequestLength { code: "CancelRequest", bytes: 12 }),
    ] {
        assert_eq!(first(body), Err(expected), "{}", body.escape_ascii());
    }
    assert_eq!(packet_length(7_u32.to_be_bytes()), Err(PacketError::Length { length: 7 }));
    assert_eq!(packet_length(10_001_u32.to_be_bytes()), Err(PacketError::Length { length: 10_001 }));
    assert_eq!(packet_length([0xff; 4]), Err(PacketError::Length { length: u32::MAX }));
    assert_eq!(packet_length(10_000_u32.to_be_bytes()), Ok(10_000));
}

#[test]
fn options_are_read_as_the_server_reads_them() {
    let split = |options: &str| {
        split_options(options).map(|all| all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
    };
    assert_eq!(split("-c role=adm --search-path=a,b"), Ok(vec!["role=adm".into(), "search_path=a,b".into()]));
    assert_eq!(split(r"-crole=adm  -c a.b=x\ y\\z"), Ok(vec!["role=adm".into(), r"a.b=x y\z".into()]));
    assert_eq!(split("\u{b}-c\nx=\t"), Ok(vec!["x=".into()]));
    assert_eq!(split(r"\-c r\ole=a"), Ok(vec!["role=a".into()]), "escapes hide nothing");
    for word in ["-c", "-e", "--role", "--", "role=adm", "-c=x", "-W9"] {
        assert_eq!(split(word), Err(word.into()));
    }
}

#[test]
fn a_parameter_beats_the_same_setting_in_options_and_each_is_there_once() {
    let packet = startup(&[("ROLE", "b"), ("user", "u"), ("options", "-c role=a -c x=1 -c X=2"), ("_pq_.new", "1")]);
    assert_eq!(packet.settings(), Ok(vec![setting("x", "2"), setting("role", "b")]));
    assert_eq!(packet.protocol_options().collect::<Vec<_>>(), ["_pq_.new"]);
    let refused = startup(&[("options", "-O")]).settings();
    assert_eq!(refused, Err(StartupError::Option { word: "-O".into() }));
}

#[test]
fn no_option_stands_for_what_the_packet_itself_says() {
    for name in ["user", "database", "replication", "options", "_pq_.x", "User", "DATABASE"] {
        let refused = startup(&[("user", "u"), ("options", &format!("-c {name}=other"))]).settings();
        assert_eq!(refused, Err(StartupError::NoSetting { name: name.to_lowercase() }), "{name}");
    }
    let refused = startup(&[("user", "u"), ("Replication", "true")]).settings();
    assert_eq!(refused, Err(StartupError::NoSetting { name: "replication".into() }));
}

#[test]
fn a_database_that_is_not_named_is_the_users() {
    assert_eq!(startup(&[("user", "u")]).database(), Ok("u"));
    assert_eq!(startup(&[("user", "u"), ("database", "")]).database(), Ok("u"));
    assert_eq!(startup(&[("database", "d")]).user(), Err(StartupError::NoUser));
    let long = "x".repeat(64);
    let refused = StartupError::NameTooLong { name: "database", bytes: 64 };
    assert_eq!(startup(&[("database", &long)]).database(), Err(refused), "the server would cut it off");
}

#[test]
fn replication_is_read_as_the_server_reads_a_boolean() {
    let replication = |value: &str| startup(&[("replication", value)]).replication();
    for value in ["true", "T", "tr", "on", "YES", "y", "1"] {
        assert_eq!(replication(value), Ok(Replication::Physical), "{value}");
    }
    for value in ["false", "f", "of", "off", "NO", "0"] {
        assert_eq!(replication(value), Ok(Replication::No), "{value}");
    }
    assert_eq!(replication("database"), Ok(Replication::Database));
    for value in ["", "o", "truex", "2", "Database"] {
        assert_eq!(replication(value), Err(StartupError::Replication { value: value.into() }), "{value}");
    }
}

#[test]
fn an_error_is_written_field_by_field_and_no_text_makes_a_field_of_its_own() {
    let mut out = BytesMut::new();
    let reply = ErrorReply::fatal("28000", "no\0Dforged").with_detail("decision 1").with_hint("ask");
    error(&mut out, &ErrorReply { position: Some(3), ..reply });
    let (frames, rest, _) = frames::read_all(Side::Server, &out, 7);
    let fields: Vec<_> = error_fields(frames[0].body()).map(|(code, value)| (code as char, value)).collect();
    let expected: [(char, &[u8]); 7] = [
        ('S', b"FATAL"),
        ('V', b"FATAL"),
        ('C', b"28000"),
        ('M', b"no"),
        ('D', b"decision 1"),
        ('H', b"ask"),
        ('P', b"3"),
    ];
    assert_eq!(fields, expected);
    assert!(rest.is_empty());
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_read_is_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        fuzz_startup(&bytes);
        fuzz_frames(&bytes);
        let mut packet = u32::try_from(8 + bytes.len()).unwrap().to_be_bytes().to_vec();
        packet.extend_from_slice(&[0, 3, 0, 0]);
        packet.extend_from_slice(&bytes);
        fuzz_startup(&packet);
    }

    #[test]
    fn every_startup_packet_survives_the_wire(pairs in prop::collection::btree_map("[a-z_.]{1,9}", "[^\0]{0,9}", 0..6), minor in 0_u16..9) {
        let mut packet = StartupPacket::new(minor);
        pairs.iter().for_each(|(name, value)| packet.set(name, value));
        prop_assert_eq!(parse_first(&packet.to_bytes()), Ok(FirstPacket::Startup(packet)));
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut(
        bodies in prop::collection::vec((prop::sample::select(b"QPBEdS".to_vec()), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        piece in 1_usize..20,
    ) {
        let mut bytes = BytesMut::new();
        bodies.iter().for_each(|(tag, body)| frame(&mut bytes, *tag, |out| out.extend_from_slice(body)));
        let (frames, rest, error) = frames::read_all(CLIENT, &bytes, piece);
        prop_assert_eq!((rest.len(), error), (0, None));
        let read: Vec<_> = frames.iter().map(|frame| (frame.tag(), frame.body().to_vec())).collect();
        prop_assert_eq!(read, bodies.clone());
        let (passed, begun, others) = frames::pass_all(CLIENT, &bytes, piece).unwrap();
        prop_assert_eq!(begun as usize, bodies.iter().filter(|(tag, _)| *tag == b'd').count());
        prop_assert_eq!(passed.len() + others.iter().map(|frame| frame.as_bytes().len()).sum::<usize>(), bytes.len());
    }
}
