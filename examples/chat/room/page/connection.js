// A socket that comes back when it is lost, on the browser's own WebSocket.

const quickest = 500, slowest = 30_000; // ms between two attempts
const settled = 5_000; // ms after which a connection counts as good

// connect opens a socket at a path of this server, and again whenever it ends.
// It calls events.connecting(), open(), message(data) and closed(wait, reason),
// where wait is the time to the next attempt in ms, or null when the server said
// to stay away. leave() ends it for good.
export function connect(path, events) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  let socket, timer, failures = 0;

  function open() {
    let since = null;
    events.connecting();
    socket = new WebSocket(`${scheme}//${location.host}${path}`);
    socket.onopen = () => {
      since = performance.now();
      events.open();
    };
    socket.onmessage = (event) => events.message(JSON.parse(event.data));
    socket.onclose = (event) => {
      failures = since !== null && performance.now() - since > settled ? 0 : failures + 1;
      const wait = final(event.code) ? null : pause(event.code, failures);
      if (wait !== null) timer = setTimeout(open, wait);
      events.closed(wait, event.reason);
    };
    // The browser tells nobody what the error was; onclose follows in any case.
    socket.onerror = () => {};
  }

  // A network that is back need not wait for the timer.
  function retry() {
    if (socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(timer);
    open();
  }

  open();
  addEventListener("online", retry);
  return {
    send: (message) => socket.send(JSON.stringify(message)),
    leave() {
      clearTimeout(timer);
      removeEventListener("online", retry);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    },
  };
}

// 4000 to 4099 tell a client to stay away.
function final(code) {
  return code >= 4000 && code < 4100;
}

// pause is random, so that the visitors of a server that restarts (1012) do not
// come back all at once.
function pause(code, failures) {
  const limit = code === 1012 ? 4_000 : Math.min(slowest, quickest * 2 ** failures);
  return quickest + Math.random() * (limit - quickest);
}
