//! Bad files: each row changes one thing in the good one, and says where and what is reported.
