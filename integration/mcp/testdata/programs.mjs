// Connects with a program, and calls a tool for alice, twice: node programs.mjs <program> <server> <port of the callback> <client ID, URL of a
// document, or nothing to register>. It prints what the tool answered, how often alice was asked, and the client ID.
import { spawn } from 'node:child_process'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { allow } from './person.mjs'

const [program, serverUrl, port, id] = process.argv.slice(2)
const env = {
  ...process.env,
  HOME: process.env.KEEP, // where the programs keep their tokens
  MCP_AUTO_OPEN_ENABLED: 'true', // or else the Inspector asks nobody
  MCP_INSPECTOR_SECRET_STORE: 'file',
  BROWSER: 'true', // a command that does nothing: this program is the browser
}
const clients = new Set()
let asked = 0
let printed = ''

// watch allows the authorization request whose URL the program prints for the person.
function watch(stream) {
  let visited = false
  let text = ''
  stream.on('data', (chunk) => {
    text += chunk
    printed += chunk
    const url = text.match(/http\S+[?&]response_type=code\S*(?=\s)/)
    if (!url || visited) return
    visited = true
    asked++
    clients.add(new URL(url[0]).searchParams.get('client_id'))
    allow(url[0]).then((next) => fetch(next)).catch(stop)
  })
}

function stop(error) {
  console.log(error, printed)
  process.exit(1)
}

const call = {
  async inspector() {
    const args = ['--cli', '--method', 'tools/call', '--tool-name', 'get_order', '--tool-arg', 'id=7', '--format', 'json']
    args.push('--server-url', serverUrl, '--transport', 'http', '--callback-url', `http://127.0.0.1:${port}/callback`)
    if (id?.startsWith('https:')) args.push('--client-metadata-url', id)
    else if (id) args.push('--client-id', id)
    const command = spawn(process.execPath, ['node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js', ...args], { env })
    watch(command.stderr)
    let output = ''
    command.stdout.on('data', (chunk) => (output += chunk))
    const code = await new Promise((done) => command.on('close', done))
    if (code !== 0) throw new Error(`exit status ${code}: ${output}`)
    const answer = JSON.parse(output)
    return (answer.result ?? answer).content[0].text
  },
  async 'mcp-remote'() {
    const args = ['node_modules/mcp-remote/dist/proxy.js', serverUrl, port, '--host', '127.0.0.1', '--callback-path', '/callback', '--transport', 'http-only']
    if (id?.startsWith('https:')) args.push('--client-metadata-url', id)
    else if (id) args.push('--static-oauth-client-info', JSON.stringify({ client_id: id }))
    const transport = new StdioClientTransport({ command: process.execPath, args, env, stderr: 'pipe' })
    watch(transport.stderr)
    const connection = new Client({ name: 'test', version: '1' })
    await connection.connect(transport)
    const answer = await connection.callTool({ name: 'get_order', arguments: { id: '7' } })
    await connection.close()
    return answer.content[0].text
  },
}[program]

try {
  const first = await call()
  const second = await call()
  console.log(JSON.stringify({ first, second, asked, client: [...clients].join(' ') }))
  process.exit(0)
} catch (error) {
  stop(error)
}
