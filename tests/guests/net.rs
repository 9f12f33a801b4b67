// What a component does with its network: listens, connects, sends datagrams, looks up names. Each line of output is one outcome.
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(|w| w.as_str()).collect();
    let outcome = match words[1..] {
        ["listen", address] => listen(address),
        ["dial", address, text] => dial(address, text),
        ["udp-listen", address] => udp_listen(address),
        ["udp-send", address, text] => udp_send(address, text),
        ["lookup", name] => lookup(name),
        _ => panic!("listen ADDRESS | dial ADDRESS TEXT | udp-listen ADDRESS | udp-send ADDRESS TEXT | lookup NAME"),
    };
    if let Err(e) = outcome {
        println!("{:?}", e.kind());
        eprintln!("{e}");
        std::process::exit(1);
    }
}

fn listen(address: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listens on {}", listener.local_addr()?);
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        stream.write_all(format!("you said {text}").as_bytes())?;
    }
}

fn dial(address: &str, text: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
}

fn udp_listen(address: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    println!("listens on {}", socket.local_addr()?);
    let mut buffer = [0; 1024];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&[b"you said ", &buffer[..length]].concat(), from)?;
    }
}

fn udp_send(address: &str, text: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.connect(address)?;
    socket.send(text.as_bytes())?;
    let mut buffer = [0; 1024];
    let length = socket.recv(&mut buffer)?;
    println!("{}", String::from_utf8_lossy(&buffer[..length]));
    Ok(())
}

fn lookup(name: &str) -> std::io::Result<()> {
    let mut found: Vec<String> = (name, 0).to_socket_addrs()?.map(|a| a.ip().to_string()).collect();
    found.sort();
    found.dedup();
    println!("{}", found.join(" "));
    Ok(())
}
