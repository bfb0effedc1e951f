// Relying parties that sign their authorization requests (RFC 9101), with openid-client and with oauth4webapi. At /<name>/login the browser
// brings the request, and at /<name>/login?push=1 the relying party has pushed it.
import express from 'express'
import session from 'express-session'
import * as openid from 'openid-client'
import * as oauth from 'oauth4webapi'

const { ISSUER: issuer, ORIGIN: origin, CLIENT_SECRET: secret, KEY: jwk } = process.env
const scope = 'openid profile email groups'
const key = await crypto.subtle.importKey('jwk', JSON.parse(jwk), { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const app = express()
app.use(session({ secret, resave: false, saveUninitialized: true }))

const config = await openid.discovery(new URL(issuer), 'openid-client', undefined, openid.PrivateKeyJwt(key), {
  execute: [openid.allowInsecureRequests],
})

app.get('/openid-client/login', async (req, res) => {
  const verifier = openid.randomPKCECodeVerifier()
  req.session.checks = { pkceCodeVerifier: verifier, expectedState: openid.randomState(), expectedNonce: openid.randomNonce() }
  let url = await openid.buildAuthorizationUrlWithJAR(
    config,
    {
      scope,
      redirect_uri: `${origin}/openid-client/callback`,
      code_challenge: await openid.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      state: req.session.checks.expectedState,
      nonce: req.session.checks.expectedNonce,
    },
    key,
  )
  if (req.query.push) url = await openid.buildAuthorizationUrlWithPAR(config, url.searchParams)
  res.redirect(url.href)
})

app.get('/openid-client/callback', async (req, res) => {
  const tokens = await openid.authorizationCodeGrant(config, new URL(req.originalUrl, origin), { ...req.session.checks, idTokenExpected: true })
  const claims = tokens.claims()
  const refreshed = await openid.refreshTokenGrant(config, tokens.refresh_token)
  const userinfo = await openid.fetchUserInfo(config, refreshed.access_token, claims.sub)
  res.json({ claims, userinfo, refreshed: refreshed.claims() })
})

const insecure = { [oauth.allowInsecureRequests]: true }
const server = await oauth.processDiscoveryResponse(new URL(issuer), await oauth.discoveryRequest(new URL(issuer), insecure))
const client = { client_id: 'oauth4webapi', id_token_signed_response_alg: 'ES256' }
const authenticated = oauth.PrivateKeyJwt(key)

app.get('/oauth4webapi/login', async (req, res) => {
  const checks = { verifier: oauth.generateRandomCodeVerifier(), nonce: oauth.generateRandomNonce(), state: oauth.generateRandomState() }
  req.session.checks = checks
  const request = await oauth.issueRequestObject(
    server,
    client,
    {
      redirect_uri: `${origin}/oauth4webapi/callback`,
      response_type: 'code',
      scope,
      code_challenge: await oauth.calculatePKCECodeChallenge(checks.verifier),
      code_challenge_method: 'S256',
      state: checks.state,
      nonce: checks.nonce,
      max_age: '3600',
    },
    key,
  )
  const url = new URL(server.authorization_endpoint)
  url.search = new URLSearchParams({ client_id: client.client_id, request })
  if (req.query.push) {
    const pushed = await oauth.pushedAuthorizationRequest(server, client, authenticated, { request }, insecure)
    const { request_uri } = await oauth.processPushedAuthorizationResponse(server, client, pushed)
    url.search = new URLSearchParams({ client_id: client.client_id, request_uri })
  }
  res.redirect(url.href)
})

app.get('/oauth4webapi/callback', async (req, res) => {
  const { verifier, nonce, state } = req.session.checks
  const params = oauth.validateAuthResponse(server, client, new URL(req.originalUrl, origin), state)
  const exchange = await oauth.authorizationCodeGrantRequest(
    server, client, authenticated, params, `${origin}/oauth4webapi/callback`, verifier, insecure,
  )
  const tokens = await oauth.processAuthorizationCodeResponse(server, client, exchange, { expectedNonce: nonce, requireIdToken: true, maxAge: 3600 })
  const claims = oauth.getValidatedIdTokenClaims(tokens)
  const answer = await oauth.refreshTokenGrantRequest(server, client, authenticated, tokens.refresh_token, insecure)
  const renewed = await oauth.processRefreshTokenResponse(server, client, answer)
  const info = await oauth.userInfoRequest(server, client, renewed.access_token, insecure)
  const userinfo = await oauth.processUserInfoResponse(server, client, claims.sub, info)
  res.json({ claims, userinfo, refreshed: oauth.getValidatedIdTokenClaims(renewed) })
})

app.use((err, req, res, next) => {
  res.status(500).json({ error: String(err), cause: String(err.cause?.stack ?? JSON.stringify(err.cause)), stack: err.stack })
})
app.listen(new URL(origin).port, '127.0.0.1')
