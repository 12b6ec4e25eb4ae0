mod with_arguments {
    #[mp::main(workers = 2)]
    fn main() {}
}

mod not_main {
    #[mp::main]
    fn start() {}
}

mod not_a_function {
    #[mp::main]
    pub struct Program;
}

mod with_parameters {
    #[mp::main]
    fn main(arguments: Vec<String>) -> usize {
        arguments.len()
    }
}

mod asynchronous {
    #[mp::main]
    #[allow(unused)]
    async fn main() {
        std::future::ready(()).await
    }
}

fn main() {}
