//! An HTTP/1 message as it came: raw head, decoded body, trailers. Splits, does not judge.

/// A request or a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// First line and fields with their line ends, empty line included.
    pub(crate) head: String,
    /// The body without its transfer coding.
    pub(crate) body: Vec<u8>,
    /// Trailer lines, each with its line end.
    pub(crate) trailers: String,
}

impl Message {
    /// The line in front of the fields.
    pub(crate) fn first_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The status of a response.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let code = self.first_line().split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| unreadable(&self.head))
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> &str {
        self.first_line().split(' ').next().unwrap_or_default()
    }

    /// The target of a request.
    pub(crate) fn target(&self) -> &str {
        self.first_line().split(' ').nth(1).unwrap_or_default()
    }

    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields().into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every value of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.fields().into_iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect()
    }

    /// Names and values, in their order and as they are written.
    pub(crate) fn fields(&self) -> Vec<(&str, &str)> {
        let lines = self.head.lines().skip(1).filter(|line| !line.is_empty());
        lines.map(|line| line.split_once(':').map_or((line, ""), |(n, v)| (n, v.trim()))).collect()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether a list field such as `Connection` has an element.
    pub(crate) fn lists(&self, name: &str, element: &str) -> bool {
        let mut elements = self.values(name).into_iter().flat_map(|value| value.split(','));
        elements.any(|e| e.trim().eq_ignore_ascii_case(element))
    }
}

/// Where the body begins in `bytes`, if the head is whole.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

#[track_caller]
#[expect(clippy::panic, reason = "fails the test")]
fn unreadable(head: &str) -> ! {
    panic!("no status line: {head:?}")
}
