// A client that is not ours, ws from npm, against the servers of deflate_test.go.
// Prints what was agreed on and how the messages fared, a line for each offer.
const WebSocket = require("ws");

const offers = {
	"takeover": {},
	"no takeover": { serverNoContextTakeover: true, clientNoContextTakeover: true },
	"client window": { clientMaxWindowBits: 10 },
	"server window": { serverMaxWindowBits: 10 },
	"off": false,
};

function run(url, perMessageDeflate) {
	return new Promise((resolve, reject) => {
		const ws = new WebSocket(url, { perMessageDeflate: perMessageDeflate && { ...perMessageDeflate, threshold: 0 } });
		const messages = [];
		for (let i = 0; i < 40; i++) {
			messages.push(`${i} ` + "Ebbe und Flut, " .repeat([0, 1, 100, 3000][i % 4]));
		}
		let next = 0, chars = 0;
		ws.on("error", reject);
		ws.on("open", () => ws.send(messages[0]));
		ws.on("message", (data) => {
			const text = JSON.parse(data).text;
			if (text !== messages[next]) {
				return reject(new Error(`message ${next}: got ${text.slice(0, 40)}`));
			}
			chars += text.length;
			if (++next < messages.length) {
				return ws.send(messages[next]);
			}
			const read = ws._socket.bytesRead;
			ws.on("close", (code) => resolve(`[${ws.extensions}] ${next} messages, ${read < chars / 5 ? "compressed" : "as they are"}, closed ${code}`));
			ws.close(1000);
		});
	});
}

(async () => {
	for (const [name, offer] of Object.entries(offers)) {
		console.log(`${name}: ${await run(process.argv[2], offer)}`);
	}
})();
