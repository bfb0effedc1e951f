// Connects with an SDK for clients, and calls tools for alice: node client.mjs <SDK> <server> <client ID, URL of a document, or nothing to register>
// It prints what the tools answered, the scopes with which they did, and the client ID.
import { allow } from './person.mjs'

const [sdk, serverUrl, id] = process.argv.slice(2)
const { Client, StreamableHTTPClientTransport, UnauthorizedError } =
  sdk === '1.x'
    ? {
        ...(await import('@modelcontextprotocol/sdk/client/index.js')),
        ...(await import('@modelcontextprotocol/sdk/client/streamableHttp.js')),
        ...(await import('@modelcontextprotocol/sdk/client/auth.js')),
      }
    : await import('client-2')

let code, client, tokens, verifier
const provider = {
  redirectUrl: 'http://127.0.0.1:4711/callback',
  clientMetadata: {
    client_name: 'SDK',
    redirect_uris: ['http://127.0.0.1:4711/callback'],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
    application_type: 'native',
  },
  clientMetadataUrl: id?.startsWith('https:') ? id : undefined,
  clientInformation: () => client ?? (id && !id.startsWith('https:') ? { client_id: id } : undefined),
  saveClientInformation: (information) => (client = information),
  tokens: () => tokens,
  saveTokens: (next) => (tokens = next),
  codeVerifier: () => verifier,
  saveCodeVerifier: (next) => (verifier = next),
  redirectToAuthorization: async (url) => (code = new URL(await allow(url)).searchParams),
}

// run does something with a connection, and once more if alice has to allow it first.
async function run(use) {
  for (let again = true; ; again = false) {
    const transport = new StreamableHTTPClientTransport(new URL(serverUrl), { authProvider: provider })
    const connection = new Client({ name: 'test', version: '1' })
    try {
      await connection.connect(transport)
      return await use(connection)
    } catch (error) {
      if (!again || !(error instanceof UnauthorizedError)) throw error
      await transport.finishAuth(sdk === '1.x' ? code.get('code') : code)
    }
  }
}

const call = (name) => run(async (connection) => (await connection.callTool({ name, arguments: { id: '7' } })).content[0].text)

const read = await call('get_order')
const first = tokens.scope
tokens = { ...tokens, access_token: 'expired' }
const tools = await run(async (connection) => (await connection.listTools()).tools.length)
const refreshed = tokens.access_token !== 'expired'
if (sdk === '1.x') tokens = { ...tokens, refresh_token: undefined } // with one, it refreshes, where it should ask alice for the scope
const deleted = await call('delete_order')
console.log(JSON.stringify({ read, first, tools, refreshed, deleted, then: tokens.scope.split(' ').sort().join(' '), client: client?.client_id ?? id }))
process.exit(0)
