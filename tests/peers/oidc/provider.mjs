// oidc-provider with one person, who says yes to everything: node provider.mjs FOLDER PORT CLIENT_ID SECRET
// REDIRECT_URI ALG. FOLDER holds node_modules (install.sh). Prints "ready" when it listens.
import { createRequire } from 'node:module';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [folder, port, clientId, secret, redirectUri, alg] = process.argv.slice(2);
const require = createRequire(folder + '/x.js');
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const jwk = (kid, use, pair) => ({ ...pair.privateKey.export({ format: 'jwk' }), kid, use });
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: clientId,
    client_secret: secret,
    redirect_uris: [redirectUri],
    response_types: ['code'],
    grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
    token_endpoint_auth_method: 'client_secret_basic',
    id_token_signed_response_alg: alg,
  }],
  jwks: { keys: [
    jwk('rs', 'sig', generateKeyPairSync('rsa', { modulusLength: 2048 })),
    jwk('es', 'sig', generateKeyPairSync('ec', { namedCurve: 'P-256' })),
  ] },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'], email: ['email', 'email_verified'] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false }, deviceFlow: { enabled: true } },
  interactions: { url: (ctx, i) => `/interaction/${i.uid}` },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: 'ann', groups: ['ops'], email: 'ann@example.org', email_verified: true }),
  }),
});

provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  const { prompt, params, grantId } = await provider.interactionDetails(ctx.req, ctx.res);
  let result = { login: { accountId: 'account-1' } };
  if (prompt.name === 'consent') {
    const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant({ accountId: 'account-1', clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: true });
  ctx.respond = false;
});

provider.on('server_error', (ctx, err) => console.error(err));
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
