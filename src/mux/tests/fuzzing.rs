//! Anything may come, and what is nearly right above all.

use proptest::prelude::*;

use super::*;

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let id = || prop_oneof![20 => 1_u32..8, 1 => 0_u32..0x00ff_ffff];
    let length = prop_oneof![6 => 1_usize..200, 4 => 200_usize..10_000, 1 => 10_000_usize..65_536];
    prop_oneof![
        8 => (id(), length).prop_map(|(id, length)| data(id, &vec![7; length])),
        3 => (id(), 1_u32..100_000).prop_map(|(id, amount)| frame(CREDIT, id, amount)),
        1 => id().prop_map(|id| frame(END, id, 0)),
        1 => id().prop_map(|id| frame(RESET, id, 0)),
        1 => (any::<u8>(), id(), any::<u32>()).prop_map(|(kind, id, number)| frame(kind % 8, id, number)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_frames_are_taken_to_their_end_or_refused(
        seed in any::<[u8; 8]>(),
        opened in 0_u32..70,
        frames in prop::collection::vec(any_frame(), 0..60),
        last in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let opened: Vec<u8> = (1..=opened).flat_map(|id| frame(OPEN, id, 0)).collect();
        fuzz_connection(&[seed.to_vec(), opened, frames.concat(), last].concat());
    }

    #[test]
    fn any_bytes_are_taken_to_their_end_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_connection(&bytes);
    }
}
