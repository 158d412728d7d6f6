// Real receivers of notices: smtp-server (STARTTLS and a login wanted) and an HTTPS webhook that checks with the
// standardwebhooks library. One line of JSON for each thing heard; ends with its standard input.
//   node receivers.mjs MODULES CERT KEY WEBHOOK_KEY USER PASSWORD
import { createRequire } from "node:module";
import { createServer } from "node:https";
import { readFileSync } from "node:fs";

const [modules, cert, key, secret, user, password] = process.argv.slice(2);
const require = createRequire(modules + "/");
const { SMTPServer } = require("smtp-server");
const { Webhook } = require("standardwebhooks");
const tls = { cert: readFileSync(cert), key: readFileSync(key) };
const say = (o) => process.stdout.write(JSON.stringify(o) + "\n");

const mail = new SMTPServer({
  ...tls,
  disabledCommands: [],
  authOptional: false,
  onAuth: (auth, session, done) =>
    auth.username === user && auth.password === password && session.secure ? done(null, { user }) : done(new Error("no")),
  onData: (stream, session, done) => {
    let text = "";
    stream.on("data", (d) => (text += d));
    stream.on("end", () => {
      say({ mail: text, secure: session.secure, from: session.envelope.mailFrom.address, to: session.envelope.rcptTo.map((r) => r.address) });
      done();
    });
  },
});
mail.on("error", (e) => say({ mailError: String(e) }));

const hook = createServer(tls, (req, res) => {
  const parts = [];
  req.on("data", (d) => parts.push(d));
  req.on("end", () => {
    let verified = true, why = "";
    try {
      new Webhook(secret).verify(Buffer.concat(parts).toString(), req.headers);
    } catch (e) {
      verified = false;
      why = String(e);
    }
    say({ hook: Buffer.concat(parts).toString(), verified, why });
    res.writeHead(verified ? 204 : 400).end();
  });
});

mail.listen(0, "127.0.0.1", () =>
  hook.listen(0, "127.0.0.1", () => say({ mailPort: mail.server.address().port, hookPort: hook.address().port })));
process.stdin.on("end", () => process.exit(0)).resume();
