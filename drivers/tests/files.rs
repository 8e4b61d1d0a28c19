//! What is particular to files and block devices: finding out what they are, and saying what is wrong.

mod fixtures;
