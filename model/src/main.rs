//! x
use treehold_model::{check, collection::{self, sizes, mutants::Mutant}};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "m" { for m in Mutant::ALL { let r = check::hunt(m.instance(), collection::harm()); println!("{m:?}: {r}"); } }
    if args[1] == "s" { for (n, m) in sizes::small() { let r = check::explore(m, 2); println!("{n}: {r}"); } }
    if args[1] == "f" { for (n, m) in sizes::full() { let r = check::explore(m, 2); println!("{n}: {r}"); } }
}
