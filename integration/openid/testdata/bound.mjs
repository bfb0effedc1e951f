// Clients with a key of their own. Each pushes its request at /<name>/login, binds its tokens to another key, and calls the API of the site;
// its callback answers with what it got.
import express from 'express'
import session from 'express-session'
import * as openid from 'openid-client'
import * as oauth from 'oauth4webapi'

const { ISSUER: issuer, ORIGIN: origin, CLIENT_KEY, CLIENT_SECRET: secret } = process.env
const api = new URL('/api/orders', issuer)
const jwk = JSON.parse(CLIENT_KEY)
const key = await crypto.subtle.importKey('jwk', jwk, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const app = express()
app.use(session({ secret, resave: false, saveUninitialized: true }))

// asBearer returns the status of a call as a thief of the token would make it.
const asBearer = async (token) => (await fetch(api, { headers: { authorization: `Bearer ${token}` } })).status

const config = await openid.discovery(new URL(issuer), 'openid-client', undefined, openid.PrivateKeyJwt({ key, kid: jwk.kid }), {
  algorithm: 'oauth2',
  execute: [openid.allowInsecureRequests],
})
const handle = openid.getDPoPHandle(config, await openid.randomDPoPKeyPair('ES256'))

app.get('/openid-client/login', async (req, res) => {
  const verifier = openid.randomPKCECodeVerifier()
  const checks = { pkceCodeVerifier: verifier, expectedState: openid.randomState() }
  req.session.checks = checks
  const url = await openid.buildAuthorizationUrlWithPAR(
    config,
    {
      scope: 'orders',
      redirect_uri: `${origin}/openid-client/callback`,
      code_challenge: await openid.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      state: checks.expectedState,
    },
    { DPoP: handle },
  )
  res.redirect(url.href)
})

app.get('/openid-client/callback', async (req, res) => {
  const tokens = await openid.authorizationCodeGrant(config, new URL(req.originalUrl, origin), req.session.checks, undefined, { DPoP: handle })
  const refreshed = await openid.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP: handle })
  const answer = await openid.fetchProtectedResource(config, refreshed.access_token, api, 'GET', undefined, undefined, { DPoP: handle })
  const got = { type: tokens.token_type, refreshed: refreshed.token_type, status: answer.status, body: await answer.text() }
  res.json({ ...got, bearer: await asBearer(refreshed.access_token) })
})

const insecure = { [oauth.allowInsecureRequests]: true }
const server = await oauth.processDiscoveryResponse(
  new URL(issuer),
  await oauth.discoveryRequest(new URL(issuer), { algorithm: 'oauth2', ...insecure }),
)
const client = { client_id: 'oauth4webapi' }
const authenticate = oauth.PrivateKeyJwt({ key, kid: jwk.kid })
const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256'))
let nonces = 0 // how often the server asked for one

// proven sends a request, and sends it again if the server wants a nonce, which the handle has then.
async function proven(send, process) {
  try {
    return await process(await send())
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error
    nonces++
    return process(await send())
  }
}

app.get('/oauth4webapi/login', async (req, res) => {
  const checks = { verifier: oauth.generateRandomCodeVerifier(), state: oauth.generateRandomState() }
  req.session.checks = checks
  const params = new URLSearchParams({
    redirect_uri: `${origin}/oauth4webapi/callback`,
    response_type: 'code',
    scope: 'orders',
    code_challenge: await oauth.calculatePKCECodeChallenge(checks.verifier),
    code_challenge_method: 'S256',
    state: checks.state,
  })
  const pushed = await proven(
    () => oauth.pushedAuthorizationRequest(server, client, authenticate, params, { DPoP, ...insecure }),
    (answer) => oauth.processPushedAuthorizationResponse(server, client, answer),
  )
  const url = new URL(server.authorization_endpoint)
  url.search = new URLSearchParams({ client_id: client.client_id, request_uri: pushed.request_uri })
  res.redirect(url.href)
})

app.get('/oauth4webapi/callback', async (req, res) => {
  const { verifier, state } = req.session.checks
  const params = oauth.validateAuthResponse(server, client, new URL(req.originalUrl, origin), state)
  const redirect = `${origin}/oauth4webapi/callback`
  const tokens = await proven(
    () => oauth.authorizationCodeGrantRequest(server, client, authenticate, params, redirect, verifier, { DPoP, ...insecure }),
    (answer) => oauth.processAuthorizationCodeResponse(server, client, answer),
  )
  const refreshed = await proven(
    () => oauth.refreshTokenGrantRequest(server, client, authenticate, tokens.refresh_token, { DPoP, ...insecure }),
    (answer) => oauth.processRefreshTokenResponse(server, client, answer),
  )
  const answer = await proven(
    () => oauth.protectedResourceRequest(refreshed.access_token, 'GET', api, undefined, undefined, { DPoP, ...insecure }),
    (answer) => answer,
  )
  const got = { type: tokens.token_type, refreshed: refreshed.token_type, status: answer.status, body: await answer.text() }
  res.json({ ...got, bearer: await asBearer(refreshed.access_token), nonces })
})

// Express has no handler that prints an error in full.
app.use((err, req, res, next) => {
  res.status(500).json({ error: String(err), cause: String(err.cause?.stack ?? JSON.stringify(err.cause)), stack: err.stack })
})
app.listen(new URL(origin).port, '127.0.0.1')
