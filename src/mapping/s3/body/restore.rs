//! RestoreObject: its body may name a place to write to, and then it cannot be judged.

use super::xml;
use crate::mapping::{Operations, Refusal};

/// A RestoreObject whose body is still to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreObject {
    operations: Operations,
}

const NAMES: [&str; 6] = ["RestoreRequest", "Days", "Description", "GlacierJobParameters", "Tier", "Type"];

impl RestoreObject {
    pub(in crate::mapping::s3) const fn new(operations: Operations) -> Self {
        Self { operations }
    }

    /// Judges the body, whole and as received, and says what is asked. The body is forwarded unchanged.
    ///
    /// # Errors
    /// Rule `malformed-xml` for a body with anything but `Days`, `Tier`, `GlacierJobParameters` and `Description`: an `OutputLocation`
    /// or `SelectParameters` writes to a bucket that nobody judged.
    pub fn judge(&self, body: &[u8]) -> Result<Operations, Refusal> {
        if !body.is_empty() {
            let root = xml::parse(body, &NAMES, 16)?;
            if root.name != "RestoreRequest" || root.children.iter().any(|child| child.name == "Type") {
                return Err(xml::refuse("body is not a RestoreRequest, or one of type SELECT"));
            }
        }
        Ok(self.operations.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Action, Context, Operation, Resource};

    fn judged(body: &str) -> Result<Operations, &'static str> {
        let resource = Resource::object("lake", "raw", "k");
        let operation = Operation { action: Action::named("s3:RestoreObject"), resource, context: Context::default() };
        RestoreObject::new(Operations::one(operation)).judge(body.as_bytes()).map_err(|refusal| refusal.rule)
    }

    #[test]
    fn a_restore_in_place_is_judged() {
        assert!(judged("").is_ok());
        assert!(judged("<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Days>3</Days><GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters></RestoreRequest>").is_ok());
    }

    #[test]
    fn a_restore_to_somewhere_else_is_refused() {
        for body in [
            "<RestoreRequest><OutputLocation><S3><BucketName>other</BucketName></S3></OutputLocation></RestoreRequest>",
            "<RestoreRequest><Type>SELECT</Type></RestoreRequest>",
            "<RestoreRequest><SelectParameters/></RestoreRequest>",
            "<Days>3</Days>",
            "not xml",
        ] {
            assert_eq!(judged(body), Err("malformed-xml"), "{body}");
        }
    }
}
