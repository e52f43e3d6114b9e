//! COPY.

use pg_query::protobuf::CopyStmt;

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
            self.copying = Some(if copy.is_from { Copying::In } else { Copying::Out });
        }
        Ok("copy")
    }
}
