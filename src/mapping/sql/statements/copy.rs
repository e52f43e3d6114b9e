//! COPY.

use pg_query::NodeEnum;
use pg_query::protobuf::{CopyStmt, DefElem, a_const};

use super::super::{Copying, SqlRefusal};
use super::{Judge, nodes};

impl Judge<'_, '_> {
    /// `TO` reads, `FROM` inserts; a file or a program of the server asks for itself as well.
    pub(super) fn copy(&mut self, copy: &CopyStmt) -> Result<&'static str, SqlRefusal> {
        self.deeper()?;
        self.walk.asked.literals_matter();
        if let Some(query) = &copy.query {
            self.statement(nodes::inner(Some(query))?)?;
        } else {
            let relation = self.range(copy.relation.as_ref())?;
            let named = nodes::columns(&copy.attlist)?;
            self.has_columns(&relation, &named)?;
            let all = relation.columns.iter().filter(|column| column.generated_from.is_empty());
            let columns = if named.is_empty() { all.map(|column| column.name.clone()).collect() } else { named };
            if copy.is_from {
                self.walk.asked.write("sql:Insert", &relation, columns);
            } else {
                self.walk.asked.read(&relation, columns);
            }
            if let Some(condition) = &copy.where_clause {
                self.walk.expression_over(condition, &relation)?;
            }
        }
        if copy.is_program {
            self.walk.asked.on_database("sql:CopyProgram", Vec::new());
        } else if !copy.filename.is_empty() {
            self.on_object("sql:CopyFile", "file", &copy.filename);
        } else {
            self.copying = Some(if copy.is_from { Copying::In } else { Copying::Out { header: has_header(copy) } });
        }
        Ok("copy")
    }
}

/// Whether COPY TO begins with a line of names. One that is taken for a row is counted as a row, so what is not clear has none.
///
/// # Source
/// PostgreSQL `defGetCopyHeaderChoice` in copy.c.
fn has_header(copy: &CopyStmt) -> bool {
    let mut options = copy.options.iter().filter_map(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) if option.defname == "header" => Some(option),
        _ => None,
    });
    // Given twice, the server refuses it.
    options.next_back().is_some_and(|option| is_on(option))
}

fn is_on(option: &DefElem) -> bool {
    let on = |word: &str| word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("on");
    match option.arg.as_ref().and_then(|arg| arg.node.as_ref()) {
        None => true,
        Some(NodeEnum::Boolean(value)) => value.boolval,
        Some(NodeEnum::Integer(value)) => value.ival == 1,
        Some(NodeEnum::String(value)) => on(&value.sval),
        Some(NodeEnum::AConst(value)) => match &value.val {
            Some(a_const::Val::Boolval(value)) => value.boolval,
            Some(a_const::Val::Ival(value)) => value.ival == 1,
            Some(a_const::Val::Sval(value)) => on(&value.sval),
            _ => false,
        },
        Some(_) => false,
    }
}
