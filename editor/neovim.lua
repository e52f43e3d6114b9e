-- ~/.config/nvim/after/plugin/cedar.lua (Neovim 0.11 or later)
vim.filetype.add({ extension = { cedar = 'cedar', cedarschema = 'cedarschema' } })

vim.lsp.config('cedar', {
  cmd = { 'cedar-language-server' },
  -- The server writes ./logs/server.log.* into the folder that it starts in.
  cmd_cwd = vim.fn.stdpath('cache'),
  filetypes = { 'cedar', 'cedarschema' },
  root_markers = { 'editor/portcullis.cedarschema', '.git' },
  -- The server has no settings: it is told which schema a file goes by once the file is open.
  on_attach = function(client, buffer)
    local file = vim.api.nvim_buf_get_name(buffer)
    if not file:match('%.cedar$') then
      return
    end
    client:request('workspace/executeCommand', {
      command = 'cedar.associateSchema',
      arguments = { {
        document_uri = vim.uri_from_fname(file),
        schema_uri = vim.uri_from_fname(client.root_dir .. '/editor/portcullis.cedarschema'),
      } },
    })
  end,
})
vim.lsp.enable('cedar')
