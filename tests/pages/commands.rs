//! The commands in a text that a shell would read: their words, without what the shell itself does with them.
//!
//! Knows quotes, comments, pipes, redirections and `$(…)`; not `case`, arithmetic or here-documents.

use std::iter::Peekable;
use std::str::Chars;

/// Commands that name a program only to do something with its file.
const MENTIONS: [&str; 6] = ["command", "cp", "install", "ls", "mv", "rm"];

#[derive(Default)]
struct Reader {
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    word: Option<String>,
    /// Whether the next word is a file that something is written to or read from.
    is_file: bool,
}

impl Reader {
    fn end_word(&mut self) {
        if let Some(word) = self.word.take()
            && !std::mem::take(&mut self.is_file)
        {
            self.words.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.is_file = false;
        let words = std::mem::take(&mut self.words);
        if !words.is_empty() {
            self.commands.push(words);
        }
    }

    fn push(&mut self, char: char) {
        self.word.get_or_insert_default().push(char);
    }

    /// What stands in `$(…)`: commands of their own, and one word of unknown text.
    fn substitute(&mut self, chars: &mut Peekable<Chars<'_>>) {
        let (mut inner, mut depth) = (String::new(), 1);
        for char in chars.by_ref() {
            depth += i32::from(char == '(') - i32::from(char == ')');
            if depth == 0 {
                break;
            }
            inner.push(char);
        }
        self.commands.extend(of(&inner));
        self.word.get_or_insert_default().push('X');
    }

    fn quoted(&mut self, chars: &mut Peekable<Chars<'_>>) {
        self.word.get_or_insert_default();
        while let Some(char) = chars.next() {
            match char {
                '"' => return,
                '\\' => chars.next().into_iter().for_each(|char| self.push(char)),
                '$' if chars.next_if_eq(&'(').is_some() => self.substitute(chars),
                char => self.push(char),
            }
        }
    }

    fn redirect(&mut self, chars: &mut Peekable<Chars<'_>>) {
        // A number right before it is a stream.
        self.word.take_if(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
        self.end_word();
        while chars.next_if(|char| matches!(char, '>' | '&' | '<')).is_some() {}
        self.is_file = true;
    }
}

/// All commands in the text, word by word.
pub fn of(text: &str) -> Vec<Vec<String>> {
    let (mut reader, mut chars) = (Reader::default(), text.chars().peekable());
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('\n') | None => reader.end_word(),
                Some(char) => reader.push(char),
            },
            '\'' => {
                reader.word.get_or_insert_default();
                chars.by_ref().take_while(|char| *char != '\'').for_each(|char| reader.push(char));
            }
            '"' => reader.quoted(&mut chars),
            '$' if chars.next_if_eq(&'(').is_some() => reader.substitute(&mut chars),
            '#' if reader.word.is_none() => while chars.next_if(|char| *char != '\n').is_some() {},
            '>' | '<' => reader.redirect(&mut chars),
            '\n' | ';' | '|' | '&' | '(' | ')' => reader.end_command(),
            char if char.is_whitespace() => reader.end_word(),
            char => reader.push(char),
        }
    }
    reader.end_command();
    reader.commands
}

/// The commands of `program` in the text, its name first, whatever runs it: `sudo`, `if`, variables.
pub fn of_program(text: &str, program: &str) -> Vec<Vec<String>> {
    let is_it = |word: &String| word.rsplit('/').next() == Some(program);
    let mut found = Vec::new();
    for mut words in of(text).into_iter().filter(|words| !MENTIONS.contains(&words[0].as_str())) {
        let Some(at) = words.iter().position(is_it) else { continue };
        let mut command = words.split_off(at);
        command[0] = program.to_owned();
        found.push(command);
    }
    found
}

#[test]
fn commands_are_found_as_a_shell_would_find_them() {
    let found = |text: &str| of_program(text, "waygate-mcp");
    let is = |text: &str, wanted: &[&[&str]]| assert_eq!(found(text), wanted, "{text}");
    is("waygate-mcp health # or not", &[&["waygate-mcp", "health"]]);
    is("sudo -u waygate A=1 ./x/waygate-mcp a 'b c' \"d\" 2>&1 | tail", &[&["waygate-mcp", "a", "b c", "d"]]);
    is(
        "x=\"$(waygate-mcp a $(b))\"\nwaygate-mcp c \\\n  d >>e; f",
        &[&["waygate-mcp", "a", "X"], &["waygate-mcp", "c", "d"]],
    );
    is("mv waygate-mcp /usr/local/bin/waygate-mcp && command -v waygate-mcp", &[]);
}
