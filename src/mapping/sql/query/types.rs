//! Casts and names of types.

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, TypeCast, TypeName};

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::catalog::is_built_in;
use crate::mapping::sql::names::Nature;

use super::scope::{ANY, Shape};
use super::{Walk, strings, unknown_node};

impl Walk<'_, '_> {
    /// `x::t`, `CAST(x AS t)`, `t 'x'`.
    pub(super) fn cast(&mut self, cast: &TypeCast) -> Result<Shape, SqlRefusal> {
        self.optional_bare(cast.arg.as_deref())?;
        self.optional_type(cast.type_name.as_ref()).map(Shape::Of)
    }

    /// A type that something is cast to, if one is given: its oid, 0 if not known.
    pub(super) fn optional_type(&mut self, name: Option<&TypeName>) -> Result<u32, SqlRefusal> {
        let Some(name) = name else { return Ok(0) };
        if name.pct_type {
            return Err(unknown_node("a type"));
        }
        self.modifiers(&name.typmods)?;
        self.modifiers(&name.array_bounds)?;
        let type_oid = self.cast_to_named(&strings(&name.names)?)?;
        // Of an array it matters what its elements are.
        Ok(match name.array_bounds.is_empty() {
            true => type_oid,
            false if is_built_in(type_oid) => 0,
            false => ANY,
        })
    }

    /// `varchar(10)`, `geometry(point, 4326)`.
    ///
    /// # Source
    /// `typenameTypeMod` in `src/backend/parser/parse_type.c`: constants and single names, which are texts to the type.
    fn modifiers(&self, modifiers: &[Node]) -> Result<(), SqlRefusal> {
        for modifier in modifiers {
            match &modifier.node {
                Some(NodeEnum::AConst(_) | NodeEnum::Integer(_)) | None => {}
                Some(NodeEnum::ColumnRef(name)) if name.fields.len() == 1 => {}
                _ => return Err(unknown_node("a type")),
            }
        }
        Ok(())
    }

    /// Whatever a cast to the type of this name may call. Its oid.
    pub(super) fn cast_to_named(&mut self, name: &[&str]) -> Result<u32, SqlRefusal> {
        let meaning = self.names.type_named(name)?;
        let call = self.names.cast_to(&meaning);
        if call.nature != Nature::Unknown {
            self.call_unseen(&call)?;
        }
        if meaning.literal_matters() {
            self.asked.literals_matter();
        }
        if meaning.is_reg() {
            // The literal is a name: which one it means, and that there is such a thing, comes out of the catalogue.
            self.asked.on_database("sql:Introspect", Vec::new());
        }
        Ok(meaning.oid)
    }
}
