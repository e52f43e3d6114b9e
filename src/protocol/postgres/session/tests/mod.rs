mod disclosure;
mod fixture;
mod model;
mod properties;
mod room;
mod statements;
