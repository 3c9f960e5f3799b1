//! What a program that builds on CPE usually needs: `use cpe::prelude::*;`.

pub use std::time::Duration;

pub use cpe_actors::{Actor, ActorError, Context, DynActor, DynContext, state_is_self};
pub use cpe_tuple::{Field, Kind, Template, Tuple, Value};

pub use crate::{
    Actors, ActorsError, KindStart, Leased, Mesh, Mode, Node, NodeHandle, Space, SpaceError,
    SpawnOptions, Stored,
};
