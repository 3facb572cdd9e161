//! Prints the `.env.example` of the settings table:
//! `cargo run -p config --example env-example > .env.example`.

fn main() {
    print!("{}", config::env_example());
}
