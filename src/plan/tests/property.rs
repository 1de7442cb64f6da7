//! Random lives of a service: whatever happens, the plan keeps the invariants (`World::plan` verifies each) and the
//! world comes to rest.

use proptest::prelude::*;

use super::world::{World, service};
use crate::model::colour::Colour;
use crate::model::desired::{Order, Promote, Restart, Strategy as Way};
use crate::model::memory::Memory;
use crate::model::snapshot::{Fact, Health, ReplicaState};

#[derive(Debug, Clone)]
enum Happening {
    Tag(u8),
    Replicas(u32),
    Colour(Option<bool>),
    Kill(usize),
    Remove(usize),
    Pause(usize),
    Sicken(usize),
    Policy(usize),
    EditServers,
    DeleteServers,
    Reload,
    NginxStops,
    NginxStarts,
    RegistryDown,
    RegistryUp,
    LoseMemory,
    Wait(u64),
    Turns(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0u8..6).prop_map(Happening::Tag),
        2 => (0u32..4).prop_map(Happening::Replicas),
        1 => proptest::option::of(any::<bool>()).prop_map(Happening::Colour),
        2 => (0usize..4).prop_map(Happening::Kill),
        2 => (0usize..4).prop_map(Happening::Remove),
        1 => (0usize..4).prop_map(Happening::Pause),
        2 => (0usize..4).prop_map(Happening::Sicken),
        1 => (0usize..4).prop_map(Happening::Policy),
        1 => Just(Happening::EditServers),
        1 => Just(Happening::DeleteServers),
        1 => Just(Happening::Reload),
        1 => Just(Happening::NginxStops),
        1 => Just(Happening::NginxStarts),
        1 => Just(Happening::RegistryDown),
        1 => Just(Happening::RegistryUp),
        1 => Just(Happening::LoseMemory),
        3 => (1u64..200).prop_map(Happening::Wait),
        6 => (1u8..6).prop_map(Happening::Turns),
    ]
}

#[expect(clippy::too_many_lines, reason = "one arm a happening: a table")]
fn happen(world: &mut World, it: &Happening) {
    let now = world.now;
    let pick = |world: &mut World, n: usize| (!world.replicas.is_empty()).then(|| n % world.replicas.len());
    match it {
        Happening::Tag(n) => world.tag(if *n == 5 { "bad" } else { ["v1", "v2", "v3", "v4", "v5"][*n as usize] }),
        Happening::Replicas(n) => world.service.replicas = *n,
        Happening::Colour(c) if world.service.rollout.strategy == Way::BlueGreen => {
            world.service.active_colour = c.map(|green| if green { Colour::Green } else { Colour::Blue });
        }
        Happening::Colour(_) => {}
        Happening::Kill(n) => {
            if let Some(n) = pick(world, *n) {
                world.replicas[n].state = ReplicaState::Exited(Some(137));
            }
        }
        Happening::Remove(n) => {
            if let Some(n) = pick(world, *n) {
                world.replicas.remove(n);
            }
        }
        Happening::Pause(n) => {
            if let Some(n) = pick(world, *n) {
                world.replicas[n].state = ReplicaState::Paused;
            }
        }
        Happening::Sicken(n) => {
            if let Some(n) = pick(world, *n) {
                world.replicas[n].health = Health::Unhealthy(now, "500".to_owned());
            }
        }
        Happening::Policy(n) => {
            if let Some(n) = pick(world, *n) {
                world.replicas[n].restart = Restart::No;
            }
        }
        Happening::EditServers if world.file.is_some() => {
            world.file = Some(("edited".to_owned(), Vec::new()));
            world.loaded = false;
        }
        Happening::EditServers => {}
        Happening::DeleteServers => {
            world.file = None;
            world.loaded = false;
        }
        Happening::Reload => {
            world.generation += 1;
            world.loaded = true;
        }
        Happening::NginxStops => world.nginx_runs = false,
        Happening::NginxStarts => {
            world.nginx_runs = true;
            world.generation += 1;
            world.loaded = true;
        }
        Happening::RegistryDown => world.registry = Fact::Unreadable("503".to_owned()),
        Happening::RegistryUp => world.registry = Fact::Seen(()),
        Happening::LoseMemory => world.memory = Memory::default(),
        Happening::Wait(s) => world.after(*s),
        Happening::Turns(n) => {
            for _ in 0..*n {
                world.turn();
                world.probe();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn any_life_keeps_the_invariants_and_comes_to_rest(
        way in 0u8..6,
        life in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut world = World::new(service("v1", 2));
        world.bad_tags.insert("bad".to_owned());
        match way {
            0 => world.service.rollout.strategy = Way::Rolling,
            1 => world.service.rollout.order = Order::StopFirst,
            2 => world.service.rollout.promote = Promote::Manual,
            _ => {}
        }
        for it in &life {
            happen(&mut world, it);
        }
        world.nginx_runs = true;
        world.generation += 1;
        world.loaded = world.file.is_some();
        world.registry = Fact::Seen(());
        world.service.rollout.promote = Promote::Auto;
        world.tag("v9");
        for _ in 0..8 {
            world.run();
            world.after(700);
        }
        world.run();
        let plan = world.plan();
        let split = plan.holds.iter().any(|it| it.reason() == "ColourUnknown");
        prop_assert!(plan.is_settled() || split, "{}\n{}\n{:#?}", plan.view.stage, world.story.join("\n"), plan);
        if !split {
            prop_assert_eq!(world.replicas.len(), world.service.replicas as usize);
            prop_assert_eq!(world.serving().len(), world.service.replicas as usize);
        }
    }
}
